"""Workers whose models are on nodes."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import SecretStr

import handlers
from shared.job import Clock, Job
from shared.runner import Runner
from shared.settings import Settings
from tests.shared.nodes.stand_in import MODEL

PIPELINES = Path(__file__).parent / "pipelines"
WAIT_S = 30
KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


def front(folder: Path, *urls: str, pipeline: str = "draw", clock: Clock = time.monotonic, **entry: Any) -> Runner:
    """A runner with one model, on these nodes; time passes for the nodes' back-off when the clock says so."""
    file = folder / "models.json"
    file.write_text(json.dumps([{"pipeline": pipeline, "model_id": MODEL, "url": list(urls), **entry}]))
    settings = Settings(models=file, handlers=PIPELINES, receipt_key=SecretStr(KEY))
    return Runner(settings, handlers.Folders(PIPELINES), clock=clock)


def run(runner: Runner, job_id: str = "job", **job_input: Any) -> dict[str, Any]:
    """The result of one job."""
    return runner.submit(Job(job_id, {"pipeline": "draw", **job_input})).result(WAIT_S)


def waiting(runner: Runner) -> int:
    """Jobs that wait for a place on a node."""
    return runner.forwarder.fleet.counts()[1]


def until(condition: Callable[..., Any]) -> None:
    """Wait for what another thread is about to do."""
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.005)
