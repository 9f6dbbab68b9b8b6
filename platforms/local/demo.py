"""What `pilotlight demo` shows: an endpoint, a real RunPod worker, and pictures of what the prompts said."""

import base64
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from platforms.local.foreground import local_endpoint
from platforms.watch import Show, console, run_job
from shared.jobs.client import Client
from shared.settings import Settings

PROMPTS = (
    "a red circle on a blue background",
    "a small yellow triangle on a green background",
    "a large purple square on a white background",
)
CHANGE = "an orange square on a black background"


def show(out: Path) -> None:
    """Run the demo; pictures and receipts stay in `out`, the queue and logs in a folder that is named when it fails.

    Raises:
        JobError: a job failed, or no worker came up.
    """
    data = Path(tempfile.mkdtemp(prefix="pilotlight-demo-"))
    console.print(f"starting an endpoint and a worker (queue and logs: {data})", highlight=False, soft_wrap=True)
    begun = time.monotonic()
    with local_endpoint(data, workers=1, port=0, settings=_demo_settings()) as endpoint:
        console.print(
            f"ready after {time.monotonic() - begun:.1f} s at {endpoint.url}/media", highlight=False, soft_wrap=True
        )
        client = Client(endpoint.url, "media", endpoint.key)
        first, *_ = [_draw(client, prompt, out) for prompt in PROMPTS]
        _step(f'image-to-image: {first.name} to "{CHANGE}"')
        _run(client, {"pipeline": "image-to-image", "prompt": CHANGE, "image": _inline(first), "seed": 1}, out)
    console.print(f"the pictures, and a receipt beside each, are in {out.resolve()}", highlight=False, soft_wrap=True)


def _draw(client: Client, prompt: str, out: Path) -> Path:
    _step(f'text-to-image: "{prompt}"')
    return _run(client, {"pipeline": "text-to-image", "prompt": prompt, "seed": 1, "num_inference_steps": 60}, out)


def _run(client: Client, given: dict[str, Any], out: Path) -> Path:
    picture, *_ = run_job(client, given, out, _narrate)
    console.print(f"  {picture}", highlight=False, soft_wrap=True)
    return picture


@contextmanager
def _narrate() -> Iterator[Show]:
    """One line for each thing that the endpoint's status says."""
    begun, said = time.monotonic(), [""]

    def show(body: dict[str, Any]) -> None:
        where = body.get("output") if body["status"] == "IN_PROGRESS" else None
        step = f", {where['stage']}" if where else ""
        step += f", step {where['step']} of {where['steps']}" if where and "step" in where else ""
        worker = f" by worker {body['workerId']}" if "workerId" in body else ""
        line = f"{body['status']}{worker}{step}"
        if line != said[0]:
            console.print(f"  {time.monotonic() - begun:5.2f} s  {line}", highlight=False, soft_wrap=True)
        said[0] = line

    yield show


def _step(what: str) -> None:
    console.print(what, style="bold", highlight=False, soft_wrap=True)


def _inline(picture: Path) -> str:
    return base64.b64encode(picture.read_bytes()).decode()


def _demo_settings() -> Settings:
    """The environment without the models that it may name: the demo shows the demo models."""
    return Settings.from_env().model_copy(update={"models": None, "model_id": None, "pipeline": None})
