"""The endpoints' keys stay on the server."""

import base64

from playwright.sync_api import Browser

from tests.ui_space.conftest import Site
from tests.ui_space.visitor import Visitor
from tests.ui_space.wire import Wire


def test_no_key_is_in_anything_that_the_browser_receives(site: Site, browser: Browser) -> None:
    with Wire(site.url) as wire:
        with browser.new_context() as context:
            somebody = Visitor(context, wire.url)
            somebody.fill("prompt", "a red circle on a blue background")
            somebody.submit()
            somebody.until("Done in")
            somebody.open("Workflow")
            somebody.fill("prompt", "x" * 20)
            somebody.page.goto(f"{wire.url}?job=upscale/no-such-job")
            somebody.until("Not found")
            somebody.open("Chat")
            somebody.seen(".chat-message textarea").fill("How many corners does a square have?")
            somebody.submit()
            somebody.until("tokens")
            for path in ("config", "gradio_api/info", "gradio_api/startup-events", "theme.css"):
                context.request.get(f"{wire.url}{path}")
        received = wire.received
    assert b"Step " in received or b"Done in" in received  # what events bring is among it, and can be read
    assert b"content-encoding:" not in received.lower()
    for key in site.keys:
        assert key.encode() not in received
        assert base64.b64encode(key.encode()).rstrip(b"=")[:-1] not in received
