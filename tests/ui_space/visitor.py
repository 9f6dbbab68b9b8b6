"""Somebody who looks at the web page in a real browser."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

LOADING_MS = 60_000
PATIENCE_MS = 90_000


class Visitor:
    """A page in a context of its own; everything is looked for in the tab that is in sight."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self.page: Page = context.new_page()
        self.errors: list[str] = []
        self.foreign: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self._note(request.url, url.partition("?")[0]))
        self.page.goto(url)
        self.arrived()

    def _note(self, asked: str, own: str) -> None:
        if asked.startswith("http") and not asked.startswith(own):
            self.foreign.append(asked)

    def arrived(self) -> Self:
        """The page has been drawn."""
        self.seen("button.submit-job").wait_for(timeout=LOADING_MS)
        return self

    def seen(self, selector: str) -> Locator:
        """The first such element that can be seen."""
        return self.page.locator(f"{selector}:visible").first

    def open(self, tab: str) -> None:
        self.page.get_by_role("tab", name=tab, exact=True).click()
        self.arrived()

    def fill(self, field: str, text: str) -> None:
        """Type into a field, also one that is a slider with a number beside it."""
        inside = self.seen(f".field-{field} :is(textarea, input[type=number], input[type=text])")
        inside.fill(text)
        inside.blur()

    def submit(self) -> None:
        self.seen("button.submit-job").click()

    @property
    def status(self) -> Locator:
        return self.seen(".job-status")

    def until(self, said: str, timeout_ms: float = PATIENCE_MS) -> str:
        """Wait for words in the status, and return all of it."""
        expect(self.status).to_contain_text(re.compile(said), timeout=timeout_ms)
        return self.status.inner_text()

    def job_id(self) -> str:
        """The id in the address."""
        self.page.wait_for_url(re.compile(r"job="), timeout=PATIENCE_MS)
        found = re.search(r"job=[a-z-]+%2F([A-Za-z0-9-]+)", self.page.url)
        assert found, self.page.url
        return found[1]

    def record_status(self) -> None:
        """Keep every text that the status has from now on, and where the place for pictures is."""
        self.page.evaluate(
            """() => {
              window.told = []; window.places = new Set();
              const look = () => {
                const seen = (all) => [...document.querySelectorAll(all)].find((e) => e.offsetParent);
                const line = seen('.job-status'), stage = seen('.job-stage');
                if (line && window.told.at(-1) !== line.innerText) window.told.push(line.innerText);
                if (stage) window.places.add(Math.round(stage.getBoundingClientRect().top + window.scrollY));
              };
              new MutationObserver(look).observe(document.body,
                {subtree: true, childList: true, characterData: true, attributes: true});
            }"""
        )

    def recorded(self, what: str) -> list[Any]:
        """`told`, `places` or `answers`, as they were recorded."""
        found: list[Any] = self.page.evaluate(f"() => [...window.{what}]")
        return found

    def pixel(self, selector: str, x: float, y: float) -> list[int]:
        """Red, green and blue of a picture or film as the browser decoded it; x and y are shares of its sides."""
        media = self.seen(selector)
        media.wait_for()
        colour: list[int] = media.evaluate(
            """async (media, [x, y]) => {
              if (media.tagName === 'IMG') await media.decode();
              const width = media.naturalWidth || media.videoWidth, height = media.naturalHeight || media.videoHeight;
              const canvas = Object.assign(document.createElement('canvas'), {width, height});
              const paper = canvas.getContext('2d');
              paper.drawImage(media, 0, 0);
              return [...paper.getImageData(x * width, y * height, 1, 1).data].slice(0, 3);
            }""",
            [x, y],
        )
        return colour

    def size(self, selector: str) -> list[int]:
        """Width and height of a picture or film in its own pixels, once they are known."""
        media = self.seen(selector)
        media.wait_for()
        self.page.wait_for_function("(m) => m.naturalWidth || m.videoWidth", arg=media.element_handle())
        found: list[int] = media.evaluate("m => [m.naturalWidth || m.videoWidth, m.naturalHeight || m.videoHeight]")
        return found


@contextmanager
def visitor(browser: Browser, url: str, **context: Any) -> Iterator[Visitor]:
    """A new visitor, who found no error in the page and was sent to no other host."""
    with browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **context}) as made:
        visiting = Visitor(made, url)
        yield visiting
        assert visiting.errors == []
        assert visiting.foreign == []
