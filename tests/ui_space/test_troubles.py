"""What visitors and owners read when something is wrong."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from platforms.local.web_page import web_page
from tests.platforms.harness import Endpoint
from tests.ui_space.visitor import visitor

ROOM = 50  # jobs that may wait for an endpoint without workers


@pytest.fixture(scope="module")
def troubled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A page whose endpoints refuse its key, do not answer, and have no room, in this order."""
    with Endpoint(tmp_path_factory.mktemp("full")) as full:
        for _ in range(ROOM):
            full.submit()
        endpoints = [
            {"endpoint_id": "media", "base_url": full.base, "key_env": "WRONG_KEY", "pipelines": ["text-to-image"]},
            {"endpoint_id": "gone", "base_url": "http://127.0.0.1:9", "pipelines": ["workflow", "text-generation"]},
            {"endpoint_id": "media", "base_url": full.base, "pipelines": ["image-to-video", "upscale"]},
        ]
        keys = {"RUNPOD_AI_API_KEY": "client-key", "WRONG_KEY": "not-the-key"}
        with web_page({"endpoints": endpoints}, keys, tmp_path_factory.mktemp("page")) as page:
            yield page.url


@pytest.mark.parametrize(
    ("tab", "said", "hint"),
    [
        ("Text to image", "The endpoint refused the key", "check the secret"),
        ("Workflow", "The endpoint does not answer", "Is it running?"),
    ],
)
def test_an_endpoint_that_refuses_or_is_gone_says_so(
    troubled: str, browser: Browser, tab: str, said: str, hint: str
) -> None:
    with visitor(browser, troubled) as somebody:
        somebody.open(tab)
        somebody.fill("prompt", "a red circle")
        somebody.submit()
        assert hint in somebody.until(said)
        expect(somebody.seen("button.submit-job")).to_be_enabled()


def test_a_chat_without_an_endpoint_says_so_at_once(troubled: str, browser: Browser) -> None:
    with visitor(browser, troubled) as somebody:
        somebody.open("Chat")
        expect(somebody.seen(".worker")).to_contain_text("The endpoint does not answer")


def test_a_full_queue_says_when_to_come_back(troubled: str, browser: Browser) -> None:
    picture = Path(__file__).parents[2] / "docs" / "pictures" / "demo.png"
    with visitor(browser, troubled) as somebody:
        somebody.open("Upscale")
        somebody.page.locator("#tab-upscale .field-image input[type=file]").set_input_files(picture)
        somebody.seen(".field-image img").wait_for()
        somebody.submit()
        assert "Submit again in 5 s." in somebody.until("The queue is full")


def test_an_address_that_names_no_job_is_no_way_to_the_endpoint(troubled: str, browser: Browser) -> None:
    with visitor(browser, f"{troubled}?job=upscale/..%2F..%2Fhealth") as somebody:
        assert somebody.status.inner_text() == "Ready."
    with visitor(browser, f"{troubled}?job=upscale/no-such-job") as somebody:
        somebody.until("Not found")


def test_a_page_that_is_not_set_up_tells_its_owner_what_to_do(tmp_path: Path, browser: Browser) -> None:
    config = {"endpoints": [{"name": "mine", "endpoint_id": "<replace me>", "pipelines": ["upscale"]}]}
    with web_page(config, {}, tmp_path) as page, browser.new_context() as context:
        shown = context.new_page()
        shown.goto(page.url)
        expect(shown.locator(".problems.prose")).to_contain_text("write its endpoint_id into config.yml")
        expect(shown.locator(".problems.prose")).to_contain_text("add the secret RUNPOD_AI_API_KEY")
