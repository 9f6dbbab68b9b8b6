"""Takes the pictures in docs/screenshots: every tab of the web page on the demo models, light, dark and on a phone.

python -m docs.screenshots
"""

import io
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from platforms.local import serving
from platforms.local.foreground import local_endpoint
from platforms.local.web_page import KEY, configuration, web_page
from shared.settings import Settings

FOLDER = Path(__file__).parent / "screenshots"
CHROMIUM = Path("/usr/bin/chromium")
DESK = {"width": 1280, "height": 900}
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"viewport": DESK, "color_scheme": "light"},
    "dark": {"viewport": DESK, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}, "color_scheme": "light", "device_scale_factor": 2},
}
CIRCLE = "a red circle on a blue background"
SQUARE = "an orange square on a black background"
PATIENCE_MS = 180_000
DRAWN = """() => [...document.images].every((image) => {
  const place = image.getBoundingClientRect();
  return image.complete || !place.width || place.top > window.innerHeight || place.bottom < 0;
})"""


def main() -> None:
    """Start everything, walk through the page in each look, and stop everything."""
    FOLDER.mkdir(exist_ok=True)
    settings = Settings.from_env()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        with local_endpoint(data, workers=1, port=0, settings=settings) as endpoint:
            config = configuration(endpoint.url, serving.endpoints(settings, data))
            with web_page(config, {KEY: endpoint.key}, data) as page, sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
                for look in LOOKS:
                    walk(browser, page.url, look)
                browser.close()


def walk(browser: Browser, url: str, look: str) -> None:
    """From a prompt over a film to the history, with a picture of each tab."""
    with browser.new_context(**LOOKS[look]) as context:
        page = context.new_page()
        page.goto(url)
        draw(page, CIRCLE, seed="1")
        shoot(page, "text-to-image", look)
        send(page, "Image to image")
        draw(page, SQUARE, seed="1")
        shoot(page, "image-to-image", look)
        open_tab(page, "Text to image")
        send(page, "Image to video")
        submit(page)
        shoot(page, "image-to-video", look)
        send(page, "Upscale")
        submit(page)
        shoot(page, "upscale", look)
        open_tab(page, "Image to video")
        send(page, "Frame interpolation")
        submit(page)
        shoot(page, "frame-interpolation", look)
        open_tab(page, "Workflow")
        draw(page, CIRCLE)
        shoot(page, "workflow", look)
        open_tab(page, "Chat")
        seen(page, ".chat-message textarea").fill("How many corners does a square have?")
        submit(page, "tokens")
        shoot(page, "chat", look)
        open_tab(page, "History")
        shoot(page, "history", look)


def draw(page: Page, prompt: str, **fields: str) -> None:
    """Fill the form in sight, and wait for what it makes."""
    for name, value in {"prompt": prompt, **fields}.items():
        seen(page, f".field-{name} :is(textarea, input)").fill(value)
    submit(page)


def submit(page: Page, until: str = "Done in") -> None:
    """Submit the form in sight, and wait for the status to say so."""
    seen(page, "button.submit-job").click()
    expect(seen(page, ".job-status")).to_contain_text(until, timeout=PATIENCE_MS)


def send(page: Page, tab: str) -> None:
    """Take the result to another tab, and wait until it is in the form there."""
    page.get_by_role("button", name=f"To {tab.lower()}", exact=True).locator("visible=true").click()
    expect(page.get_by_role("tab", name=tab, exact=True)).to_have_attribute("aria-selected", "true")
    seen(page, ":is(.field-image img, .field-video video)").wait_for()


def open_tab(page: Page, name: str) -> None:
    """Open a tab."""
    page.get_by_role("tab", name=name, exact=True).click()
    expect(page.get_by_role("tab", name=name, exact=True)).to_have_attribute("aria-selected", "true")


def shoot(page: Page, name: str, look: str) -> None:
    """A picture of what is in the window, in 128 colours, which halves the file; a phone looks at the result."""
    result = seen(page, ".job-status")
    if look == "phone" and result.count():
        result.evaluate("status => status.scrollIntoView()")
    page.wait_for_function(DRAWN)
    page.wait_for_timeout(700)  # for films, which have no event that says that they are drawn
    with Image.open(io.BytesIO(page.screenshot())) as shot:
        shot.convert("RGB").quantize(128).save(FOLDER / f"{name}-{look}.png", optimize=True)


def seen(page: Page, selector: str) -> Locator:
    """The first such element that can be seen."""
    return page.locator(f"{selector}:visible").first


if __name__ == "__main__":
    main()
