"""What `pilotlight demo` shows: endpoints, real RunPod workers, pictures of prompts, a film of them, an answer."""

import base64
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from platforms.local.foreground import local_endpoint
from platforms.records import MEDIA
from platforms.text import run_text
from platforms.watch import Show, console, run_job
from shared.jobs.client import Client
from shared.models.catalog import TEXT_GENERATION
from shared.settings import Settings

PROMPTS = (
    "a red circle on a blue background",
    "a small yellow triangle on a green background",
    "a large purple square on a white background",
)
CHANGE = "an orange square on a black background"
FILM = "a red circle on blue"
QUESTION = "Which colour do red and yellow make?"


def show(out: Path) -> None:
    """Run the demo; pictures and receipts stay in `out`, the queue and logs in a folder that is named first.

    Raises:
        JobError: a job failed, or no worker came up.
    """
    data = Path(tempfile.mkdtemp(prefix="pilotlight-demo-"))
    _say(f"starting two endpoints, for pictures and for text, with a worker each (queue and logs: {data})")
    begun = time.monotonic()
    with local_endpoint(data, workers=1, port=0, settings=_demo_settings()) as endpoint:
        _say(f"ready after {time.monotonic() - begun:.1f} s at {endpoint.url}/media and /text-generation")
        client = Client(endpoint.url, MEDIA, endpoint.key)
        first, *_ = [_draw(client, prompt, out) for prompt in PROMPTS]
        _step(f'image-to-image: {first.name} to "{CHANGE}"')
        _run(client, {"pipeline": "image-to-image", "prompt": CHANGE, "image": _inline(first), "seed": 1}, out)
        _film(client, out)
        _ask(Client(endpoint.url, TEXT_GENERATION, endpoint.key), out)
    _say(f"pictures, films and answer, and a receipt for each, are in {out.resolve()}")


def _film(client: Client, out: Path) -> None:
    """A prompt drawn, set in motion and enlarged, as one job."""
    _step(f'workflow: "{FILM}", in motion at 24 frames a second, twice as large')
    _run(client, {"pipeline": "workflow", "prompt": FILM}, out)


def _ask(client: Client, out: Path) -> None:
    _step(f'text-generation: "{QUESTION}"')
    _say("  by a tiny model that was trained on shapes, colours and Pilotlight alone; printed as it is written:")
    messages = [{"role": "user", "content": QUESTION}]
    run_text(client, {"pipeline": TEXT_GENERATION, "messages": messages}, out)


def _draw(client: Client, prompt: str, out: Path) -> Path:
    _step(f'text-to-image: "{prompt}"')
    return _run(client, {"pipeline": "text-to-image", "prompt": prompt, "seed": 1, "num_inference_steps": 60}, out)


def _run(client: Client, given: dict[str, Any], out: Path) -> Path:
    made, *_ = run_job(client, given, out, _narrate)
    _say(f"  {made}")
    return made


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
            _say(f"  {time.monotonic() - begun:5.2f} s  {line}")
        said[0] = line

    yield show


def _say(text: str) -> None:
    console.print(text, highlight=False, soft_wrap=True)


def _step(what: str) -> None:
    console.print(what, style="bold", highlight=False, soft_wrap=True)


def _inline(file: Path) -> str:
    return base64.b64encode(file.read_bytes()).decode()


def _demo_settings() -> Settings:
    """The environment without the models that it may name: the demo shows the demo models."""
    unset = dict.fromkeys(("models", "model_id", "pipeline", "ggml_repo", "ggml_file"))
    return Settings.from_env().model_copy(update=unset)
