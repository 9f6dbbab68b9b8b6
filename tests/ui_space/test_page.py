"""What visitors do on the page, in a real Chromium, on the demo models."""

import re

import pytest
from playwright.sync_api import Browser, expect

from tests.platforms.harness import until
from tests.ui_space.conftest import Site
from tests.ui_space.visitor import Visitor, visitor

CIRCLE = "a red circle on a blue background"
IMAGE = ".made-images [data-testid=detailed-image]"
VIDEO = ".made-video video"
TABS = [
    "Text to image",
    "Image to image",
    "Image to video",
    "Frame interpolation",
    "Upscale",
    "Workflow",
    "Chat",
    "History",
]


def draw(somebody: Visitor, prompt: str = CIRCLE, **fields: str) -> None:
    somebody.fill("prompt", prompt)
    for name, value in fields.items():
        somebody.fill(name, value)
    somebody.submit()


def is_red(colour: list[int]) -> bool:
    return colour[0] > 150 and max(colour[1:]) < 110


def is_blue(colour: list[int]) -> bool:
    return colour[2] > 150 and max(colour[:2]) < 110


def test_a_prompt_becomes_a_picture_with_progress_on_the_way(site: Site, browser: Browser) -> None:
    with visitor(browser, site.url) as somebody:
        somebody.record_status()
        somebody.fill("prompt", CIRCLE)
        somebody.fill("seed", "1")
        somebody.fill("num_inference_steps", "100")
        somebody.page.keyboard.press("Control+Enter")
        somebody.until("Done in")
        assert is_red(somebody.pixel(IMAGE, 0.5, 0.5))
        assert is_blue(somebody.pixel(IMAGE, 0.05, 0.05))
        assert somebody.seen(IMAGE).get_attribute("alt") == f"{CIRCLE}, seed 1"
        told = somebody.recorded("told")
        assert any(re.match(r"Step \d+ of 100", text) for text in told), told
        assert len(somebody.recorded("places")) == 1  # nothing moved while the job was polled
        facts = somebody.seen(".job-facts").inner_text()
        assert "64 x 64 pixels" in facts
        assert "✓ signature verified" in facts
        assert "USD" in facts


def test_a_seed_can_be_used_again_and_the_history_keeps_both(site: Site, browser: Browser) -> None:
    with visitor(browser, site.url) as somebody:
        draw(somebody, num_inference_steps="2")
        somebody.until("Done in")
        reuse = somebody.page.get_by_role("button", name=re.compile(r"Reuse seed \d+"))
        seed = reuse.inner_text().split()[-1]
        reuse.click()
        expect(somebody.seen(".field-seed :is(input, textarea)")).to_have_value(seed)
        somebody.fill("prompt", "a yellow triangle on a black background")
        somebody.submit()
        expect(somebody.seen(IMAGE)).to_have_attribute(
            "alt", f"a yellow triangle on a black background, seed {seed}", timeout=60_000
        )
        somebody.page.get_by_role("tab", name="History").click()
        expect(somebody.page.locator(".history-images img:visible")).to_have_count(2)


def test_a_picture_becomes_a_film_and_a_larger_film_without_leaving_the_page(site: Site, browser: Browser) -> None:
    with visitor(browser, site.url) as somebody:
        draw(somebody, num_inference_steps="20")
        somebody.until("Done in")
        somebody.page.get_by_role("button", name="To image to video").locator("visible=true").click()
        somebody.seen(".field-image img").wait_for()
        somebody.submit()
        somebody.until("Done in")
        assert somebody.size(VIDEO) == [64, 64]
        somebody.page.get_by_role("button", name="To upscale").locator("visible=true").click()
        somebody.seen(".field-video video").wait_for()
        somebody.submit()
        somebody.until("Done in")
        assert somebody.size(VIDEO) == [256, 256]


def test_a_workflow_is_a_prompt_away(site: Site, browser: Browser) -> None:
    with visitor(browser, site.url) as somebody:
        somebody.open("Workflow")
        draw(somebody)
        somebody.until("Done in", timeout_ms=120_000)
        assert somebody.size(VIDEO) == [128, 128]


def test_a_failed_job_says_why_and_can_be_retried(site: Site, browser: Browser) -> None:
    with visitor(browser, site.url) as somebody:
        somebody.open("Workflow")
        somebody.fill("prompt", "x")
        somebody.page.get_by_role("button", name="Advanced").locator("visible=true").click()
        somebody.seen(".field-steps .cm-content").fill('[{"pipeline": "text-to-image"}]')
        somebody.submit()
        assert "give either steps or prompt" in somebody.until("The endpoint refused the input")
        before = somebody.job_id()
        somebody.seen("button.retry-job").click()
        somebody.until("Submitted|Queued|refused")
        somebody.until("The endpoint refused the input")
        assert somebody.job_id() == before
        until(lambda: site.studio.client.status(before)["status"] == "FAILED")


def test_what_is_missing_is_said_before_anything_is_sent(site: Site, browser: Browser) -> None:
    with visitor(browser, site.url) as somebody:
        somebody.open("Image to image")
        somebody.fill("prompt", CIRCLE)
        somebody.submit()
        assert "Image is missing." in somebody.until("refused the input")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_tab_fits_a_phone(site: Site, browser: Browser, scheme: str) -> None:
    with visitor(browser, site.url, viewport={"width": 390, "height": 844}, color_scheme=scheme) as somebody:
        for tab in TABS:
            somebody.page.get_by_role("tab", name=tab, exact=True).click()
            overflow = somebody.page.evaluate(
                "() => document.scrollingElement.scrollWidth - document.scrollingElement.clientWidth"
            )
            assert overflow <= 0, tab
        assert somebody.page.evaluate("() => document.body.classList.contains('dark')") is (scheme == "dark")
