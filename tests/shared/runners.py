"""Runners with the real handlers, the jobs that tests give them, and what these report."""

import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

import handlers
from shared.job import Event, Job, Progress
from shared.media.image import encode_image
from shared.media.source import data_url
from shared.runner import Runner
from shared.settings import Settings

WAIT_S = 120
ROOT = Path(__file__).parents[2]
EXTRA = Path(__file__).parent / "extra_handlers"
DEMO = "demo/text-to-image"
PROMPT = "a red circle on a blue background"
DRAW = {"pipeline": "text-to-image", "prompt": PROMPT, "num_inference_steps": 2, "seed": 11}
SMALL = {"num_inference_steps": 4, "width": 64, "height": 64}
PICTURE = Image.linear_gradient("L").resize((64, 64)).convert("RGB")
PICTURE_URL = data_url(encode_image(PICTURE, "png"), "image/png")
CHANGE = {"pipeline": "image-to-image", "prompt": PROMPT, "image": PICTURE_URL, "num_inference_steps": 4, "seed": 11}
PAINT = {"pipeline": "paint"}


def make(models: Path, **more: Any) -> Runner:
    return Runner(Settings(models=models, device="cpu", **more), handlers.Folders(EXTRA))


def run(runner: Runner, *inputs: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The result of one job; later inputs win."""
    return runner.submit(Job("job", {k: v for i in inputs for k, v in i.items()}, **more)).result(WAIT_S)


def picture(result: dict[str, Any], number: int = 0) -> Image.Image:
    head, _, data = result["images"][number]["url"].partition(",")
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert head == f"data:{Image.MIME[str(image.format)]};base64"
    return image.convert("RGB")


class Events:
    """What a job reports; calls back on each progress."""

    def __init__(self, on_progress: Callable[[Progress], None] = lambda progress: None) -> None:
        self.seen: list[Progress] = []
        self._on_progress = on_progress

    def __call__(self, event: Event) -> None:
        assert isinstance(event, Progress)
        self.seen.append(event)
        self._on_progress(event)

    def stages(self) -> list[str]:
        return list(dict.fromkeys(progress.stage for progress in self.seen))

    def steps(self) -> list[int | None]:
        return [progress.step for progress in self.seen if progress.step is not None]


def put(*urls: str) -> dict[str, Any]:
    return {"delivery": {"put": [{"url": url} for url in urls]}}
