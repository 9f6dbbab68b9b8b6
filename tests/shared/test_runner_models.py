"""The runner with models that are not here yet: a job waits for its download, shows it, and may leave."""

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import handlers
from shared.errors import Cancelled
from shared.job import Event, Job, Progress
from shared.models.store import Store
from shared.models.wanted import wanted_files
from shared.runner import Runner
from shared.settings import Settings
from tests.shared.models.folders import REMOTE
from tests.shared.models.hub_server import HubServer, held, hub_server

MODEL = "Ours/Small-Model"
WEIGHTS = "unet/diffusion_pytorch_model.fp16.safetensors"
HANDLERS = Path(__file__).parent / "text_handlers"
WAIT_S = 60


@pytest.fixture
def served() -> Iterator[HubServer]:
    with hub_server() as server:
        server.add(MODEL, REMOTE)
        yield server


@pytest.fixture
def runner(tmp_path: Path, served: HubServer) -> Iterator[Runner]:
    listed = tmp_path / "models.json"
    listed.write_text(json.dumps([{"pipeline": "meet", "model_id": MODEL}]))
    store = Store(tmp_path / "volume", volumes=(), hub_url=served.url)
    runner = Runner(Settings(models=listed, device="cpu"), handlers.Folders(HANDLERS), store=store)
    yield runner
    runner.lane.close()
    runner.store.close()


def heard(job: Job, act: Callable[[Progress], None] = lambda progress: None) -> list[Progress]:
    """The job's reports, as they come; `act` sees each."""
    reports: list[Progress] = []

    def listen(event: Event) -> None:
        if isinstance(event, Progress):
            reports.append(event)
            act(event)

    job.events = listen
    return reports


def test_a_job_that_waits_for_its_model_shows_bytes_as_steps(runner: Runner, served: HubServer) -> None:
    gate = threading.Event()
    served.faults[WEIGHTS] = [held(gate)]
    job = Job("job", {"pipeline": "meet", "wait": False})
    reports = heard(job, lambda progress: gate.set() if progress.step else None)
    runner.submit(job).result(WAIT_S)
    waiting = [r for r in reports if r.stage == "downloading"]
    total = sum(len(REMOTE[name]) for name in wanted_files(list(REMOTE)))
    assert waiting[0].as_dict() == {"seq": 1, "stage": "downloading"}
    assert (waiting[-1].steps, waiting[-1].step) == (total, total)
    assert [r.seq for r in reports] == list(range(1, len(reports) + 1))
    assert next(r.stage for r in reports if r.stage != "downloading") in ("loading", "running")


def test_a_job_that_waits_for_its_model_can_be_cancelled(runner: Runner, served: HubServer) -> None:
    gate, arrived = threading.Event(), threading.Event()
    served.faults[WEIGHTS] = [held(gate, arrived)]
    job = Job("job", {"pipeline": "meet", "wait": False})
    future = runner.submit(job)
    assert arrived.wait(WAIT_S)
    job.cancel.cancel("enough")
    with pytest.raises(Cancelled, match="enough"):
        future.result(WAIT_S)
    assert not gate.is_set()
    gate.set()


def test_what_a_worker_has_loaded_is_not_evicted_by_others(runner: Runner, tmp_path: Path) -> None:
    runner.submit(Job("job", {"pipeline": "meet", "wait": False})).result(WAIT_S)
    other = Store(tmp_path / "volume", volumes=())
    (model,) = [m for m in other.stored() if m.model_id == MODEL]
    assert model.in_use
    assert not other.evict(model)
    runner.pool.free(everything=True)
    assert other.evict(model)
