"""Answers on their way, by a worker that waits for a file after the first word."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from platforms.local.up import LocalEndpoint
from platforms.local.web_page import web_page
from shared.jobs.client import Client
from tests.platforms.harness import until
from tests.ui_space.test_chat_page import BOT, ask
from tests.ui_space.visitor import visitor

HANDLERS = Path(__file__).parent / "text_handlers"


@dataclass(frozen=True)
class Echo:
    """The page's address, the endpoint's client, and the folder of the files that answers wait for."""

    url: str
    client: Client
    gates: Path

    def open_gate(self, name: str) -> None:
        (self.gates / name).touch()


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Echo]:
    folder = tmp_path_factory.mktemp("echo")
    (gates := folder / "gates").mkdir()
    (models := folder / "models.json").write_text("[]")
    env = {"HANDLERS": str(HANDLERS), "MODELS": str(models), "PIPELINE": "text-generation"}
    with LocalEndpoint(folder / "data", env=env, endpoints={"text-generation": {}}) as endpoint:
        text = {"endpoint_id": "text-generation", "base_url": endpoint.url, "pipelines": ["text-generation"]}
        config = {"endpoints": [text], "defaults": {"text-generation": {"gates": str(gates)}}}
        with web_page(config, {"RUNPOD_AI_API_KEY": endpoint.key}, folder) as page:
            client = Client(endpoint.url, "text-generation", endpoint.key)
            yield Echo(page.url, client, gates)
            client.close()


def test_words_are_shown_while_the_answer_is_being_written(echo: Echo, browser: Browser) -> None:
    with visitor(browser, echo.url) as somebody:
        ask(somebody, "first then more")
        expect(somebody.page.locator(BOT).last).to_have_text("first", timeout=60_000)
        echo.open_gate("first")
        expect(somebody.page.locator(BOT).last).to_have_text("first then more")
        somebody.until("3 tokens")


def test_stop_cancels_the_job_and_keeps_what_was_written(echo: Echo, browser: Browser) -> None:
    with visitor(browser, echo.url) as somebody:
        ask(somebody, "stopped before this")
        expect(somebody.page.locator(BOT).last).to_have_text("stopped", timeout=60_000)
        somebody.seen("button.cancel-job").click()
        somebody.until("Cancelled")
        assert echo.client.status(somebody.job_id())["status"] == "CANCELLED"
        until(lambda: echo.client.health()["workers"]["idle"] == 1)
        expect(somebody.page.locator(BOT).last).to_have_text("stopped")


def test_a_reload_in_the_middle_of_an_answer_repeats_and_loses_nothing(echo: Echo, browser: Browser) -> None:
    with visitor(browser, echo.url) as somebody:
        ask(somebody, "reloaded but whole")
        expect(somebody.page.locator(BOT).last).to_have_text("reloaded", timeout=60_000)
        somebody.job_id()
        somebody.page.reload()
        somebody.arrived()
        expect(somebody.page.locator(BOT).last).to_have_text("reloaded", timeout=60_000)
        echo.open_gate("reloaded")
        expect(somebody.page.locator(BOT).last).to_have_text("reloaded but whole")
        expect(somebody.page.locator(".chat .user .message")).to_have_text("reloaded but whole")


def test_a_worker_that_knows_no_messages_is_asked_by_prompt(echo: Echo, browser: Browser) -> None:
    echo.open_gate("plainly")
    with visitor(browser, echo.url) as somebody:
        ask(somebody, "plainly asked")
        expect(somebody.page.locator(BOT).last).to_have_text("plainly asked", timeout=60_000)
        somebody.until("2 tokens")
