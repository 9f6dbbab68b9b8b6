"""The web page over the demo models, and a browser."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, sync_playwright

from platforms.local.web_page import web_page
from shared.receipts import Signer
from tests.conftest import RECEIPT_KEY
from tests.studio import Studio, TextStudio

CHROMIUM = Path("/usr/bin/chromium")
MEDIA = ["text-to-image", "image-to-image", "image-to-video", "frame-interpolation", "upscale", "workflow"]
SMALL = {"width": 64, "height": 64}
DEFAULTS = {
    "text-to-image": {**SMALL, "guidance_scale": 2.0, "num_inference_steps": 20},
    "image-to-image": {"num_inference_steps": 16, "guidance_scale": 2.0},
    "image-to-video": {"num_frames": 8, "fps": 4, "num_inference_steps": 8, "max_guidance_scale": 1.0, **SMALL},
}


@dataclass(frozen=True)
class Site:
    """The page's address, its process, and the endpoints behind it."""

    url: str
    pid: int
    studio: Studio
    text_studio: TextStudio

    @property
    def keys(self) -> list[str]:
        return [self.studio.endpoint.key, self.text_studio.endpoint.key]


def configuration(studio: Studio, text_studio: TextStudio) -> dict[str, Any]:
    """A config.yml of both endpoints, whose receipts can be verified."""
    receipt_key = Signer(RECEIPT_KEY).public_key
    media = {"name": "pictures", "base_url": studio.endpoint.url, "endpoint_id": "media", "pipelines": MEDIA}
    text = {"name": "text", "base_url": text_studio.endpoint.url, "endpoint_id": "text-generation"}
    return {
        "endpoints": [
            {**media, "price_per_s": 0.0002, "receipt_key": receipt_key},
            {**text, "pipelines": ["text-generation"], "key_env": "TEXT_KEY", "receipt_key": receipt_key},
        ],
        "poll": {"first_s": 0.05, "longest_s": 0.2},
        "defaults": DEFAULTS,
        "examples": {"text-to-image": ["a green square on a white background"]},
    }


@pytest.fixture(scope="session")
def site(studio: Studio, text_studio: TextStudio, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    config = configuration(studio, text_studio)
    keys = {"RUNPOD_AI_API_KEY": studio.endpoint.key, "TEXT_KEY": text_studio.endpoint.key}
    with web_page(config, keys, tmp_path_factory.mktemp("page")) as page:
        yield Site(page.url, page.pid, studio, text_studio)


@pytest.fixture(scope="module")  # while it is there, an event loop runs in this thread
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()
