"""Models that are read before there is a device, as a memory snapshot wants it, and what its copies do with them."""

import gc
import json
import random
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from shared import ahead
from shared.device import Device, Kind
from shared.errors import NotFound
from shared.models.pool import Load
from shared.runner import Runner
from shared.schemas import Context, Handler, ModelParams, ModelSource
from shared.settings import Settings
from tests.lines import Lines
from tests.shared.models.folders import write_files
from tests.shared.runners import DEMO, DRAW, ROOT, SMALL, WAIT_S, Events, make, picture, run

DEMOS = (
    ("text-to-image", DEMO),
    ("image-to-image", DEMO),
    ("image-to-video", "demo/image-to-video"),
    ("frame-interpolation", "demo/frame-interpolation"),
    ("upscale", "demo/upscale"),
)


@pytest.fixture(autouse=True, scope="module")
def unfrozen() -> Iterator[None]:
    """The other tests' objects are not this worker's, to be kept from the collector for ever."""
    yield
    gc.unfreeze()


@dataclass
class Weights:
    """A model that tells where it has been."""

    devices: list[Device]
    loading: dict[str, float] = field(default_factory=dict)


def load(source: ModelSource, device: Device) -> Weights:
    return Weights([device], {"files_s": 3.0})


def to_device(model: Weights, device: Device) -> Weights:
    return Weights([*model.devices, device], {"to_device_s": 1.0})


def damaged(source: ModelSource, device: Device) -> Weights:
    raise RuntimeError("no such weights")


def tell(model: Weights, params: ModelParams, ctx: Context) -> None:
    ctx.note(devices=[(device.kind, device.bound_for) for device in model.devices])


@dataclass(frozen=True)
class Handlers:
    """Implements schemas.Registry: without torch, and each with a model."""

    handlers: Mapping[str, Handler]

    def names(self) -> list[str]:
        return sorted(self.handlers)

    def get(self, name: str) -> Handler:
        if name not in self.handlers:
            raise NotFound(name)
        return self.handlers[name]


def of(load: Load, **more: Any) -> Handler:
    return Handler(params=ModelParams, load=load, run=tell, torch=False, **more)


def light(folder: Path, handlers: Mapping[str, Handler], **entry: Any) -> Runner:
    """A runner whose models are files without weights, each warm."""
    model = str(write_files(folder / "model"))
    entries = [{"pipeline": name, "model_id": model, "warm": True, **entry} for name in handlers]
    file = folder / "models.json"
    file.write_text(json.dumps(entries))
    return Runner(Settings(models=file, device="cpu"), Handlers(handlers))


def devices(runner: Runner, pipeline: str) -> tuple[list[tuple[Kind, Kind | None]], list[str]]:
    """Where the model of a job has been, and the stages of that job."""
    events = Events()
    result = run(runner, {"pipeline": pipeline}, events=events)
    return result["metrics"]["devices"], events.stages()


def test_a_model_is_read_on_the_cpu_and_placed_once_there_is_a_device(tmp_path: Path) -> None:
    runner = light(tmp_path, {"draw": of(load, to_device=to_device), "change": of(load, to_device=to_device)})
    runner.load_ahead("cpu")
    assert runner.pool.warm() == {}
    runner.place_ahead()
    assert len(runner.pool.warm()) == 1  # both name the same function
    for pipeline in ("draw", "change"):
        assert devices(runner, pipeline) == ([("cpu", "cpu"), ("cpu", None)], ["running", "delivering"])


def test_the_first_job_tells_what_the_copy_took_and_not_what_the_snapshot_did(tmp_path: Path) -> None:
    runner = light(tmp_path, {"draw": of(load, to_device=to_device)})
    runner.load_ahead("cpu")
    runner.place_ahead()
    runner.warm()
    told = run(runner, {"pipeline": "draw"})["metrics"]["cold_start"]
    assert told["models"] == [{"to_device_s": 1.0}]
    assert {"place_s", "device_s", "warm_s"} <= set(told)
    assert "cold_start" not in run(runner, {"pipeline": "draw"})["metrics"]


def test_a_handler_that_cannot_place_is_loaded_by_the_copy(tmp_path: Path) -> None:
    runner = light(tmp_path, {"draw": of(load)})
    runner.load_ahead("cpu")
    runner.place_ahead()
    assert runner.pool.warm() == {}
    runner.warm()
    assert devices(runner, "draw") == ([("cpu", None)], ["running", "delivering"])


def test_what_was_read_for_another_kind_of_device_is_loaded_anew(tmp_path: Path) -> None:
    runner = light(tmp_path, {"draw": of(load, to_device=to_device)})
    runner.load_ahead("cuda")
    runner.place_ahead()
    assert runner.pool.warm() == {}
    assert devices(runner, "draw")[0] == [("cpu", None)]


@pytest.mark.parametrize(
    ("entry", "loader"), [({"model_id": "demo/not-there"}, load), ({}, damaged)], ids=["missing", "damaged"]
)
def test_a_model_that_cannot_be_read_spoils_no_snapshot(
    tmp_path: Path, lines: Lines, entry: dict[str, str], loader: Load
) -> None:
    runner = light(tmp_path, {"draw": of(loader, to_device=to_device)}, **entry)
    runner.load_ahead("cpu")
    (left,) = lines.named("left for later")
    assert ("no such weights" if loader is damaged else "not on the volume") in vars(left)["fields"]["reason"]
    runner.place_ahead()
    assert runner.pool.warm() == {}


def test_only_warm_models_are_read(tmp_path: Path) -> None:
    runner = light(tmp_path, {"draw": of(load, to_device=to_device)}, warm=False)
    runner.load_ahead("cpu")
    runner.place_ahead()
    assert runner.pool.warm() == {}


def test_every_generator_begins_anew() -> None:
    def drawn() -> list[Any]:
        return [random.random(), float(np.random.random()), float(torch.rand(()))]

    begun = random.getstate(), np.random.get_state(), torch.get_rng_state()
    first = drawn()
    random.setstate(begun[0])
    np.random.set_state(begun[1])
    torch.set_rng_state(begun[2])
    ahead.reseed()
    assert not set(first) & set(drawn())


def test_pictures_of_a_card_that_is_not_there_are_those_of_the_cpu(tmp_path: Path, runner: Runner) -> None:
    file = tmp_path / "models.json"
    file.write_text(json.dumps([{"pipeline": "text-to-image", "model_id": DEMO, "defaults": SMALL, "warm": True}]))
    ours = make(file)
    ours.load_ahead("cuda")
    ours.place_ahead()
    assert picture(run(ours, DRAW)).tobytes() == picture(run(runner, DRAW)).tobytes()


def script(code: str, *arguments: str) -> dict[str, Any]:
    """What a process of its own tells in its last line."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        cwd=ROOT,
        env={
            "PATH": "",
            "OMP_NUM_THREADS": "1",
        },  # a fork keeps one thread, and OpenMP's pool would wait for the others
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


WITHOUT_CUDA = """
import json, sys, threading
from pathlib import Path
from tests.shared import no_cuda
asked = no_cuda.forbid()
bites = no_cuda.bites(asked)

import handlers
from shared.runner import Runner
from shared.settings import Settings
runner = Runner(Settings(models=Path(sys.argv[1])), handlers.Folders())
runner.load_ahead("cuda")
mapped = [line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines()]
opened = [str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
print(json.dumps({
    "bites": bites,
    "asked": asked,
    "read": [read.source.model_id for read in runner._ahead._read],
    "held": [name for name in mapped + opened if "demo_models" in name],
    "threads": [thread.name for thread in threading.enumerate()],
    "llama": "xllamacpp" in sys.modules,
}))
"""


def test_no_pipeline_asks_for_a_card_before_there_is_one(tmp_path: Path) -> None:
    """Or CUDA would remember, in every copy of the snapshot, that there is none."""
    file = tmp_path / "models.json"
    entries = [*DEMOS, ("text-generation", "demo/text-generation")]
    file.write_text(json.dumps([{"pipeline": name, "model_id": model, "warm": True} for name, model in entries]))
    told = script(WITHOUT_CUDA, str(file))
    assert told["bites"]
    assert told["asked"] == []
    assert told["read"] == list(dict.fromkeys(model for _, model in DEMOS))
    assert told["held"] == []  # of a volume, which could not be looked at anew, or would be gone in the copy
    assert (told["threads"], told["llama"]) == (["MainThread"], False)


COPIES = """
import json, os, random, sys
from pathlib import Path
import handlers
import numpy, torch
from shared.job import Job
from shared.runner import Runner
from shared.settings import Settings

runner = Runner(Settings(models=Path(sys.argv[1]), device="cpu"), handlers.Folders())
runner.load_ahead("cpu")
asked = json.loads(sys.argv[2])

def draw(**more):
    result = runner.submit(Job("job", {**asked, **more})).result()
    return result["receipt"]["outputs"][0]["pixels_sha256"], "loading" in result["metrics"]

def copy(start):
    start()
    told = {"numbers": [random.random(), numpy.random.random(), torch.randn(()).item()]}
    told["reader"] = runner.store._readers._name
    told["unseeded"], told["loaded"] = draw(seed=None)
    told["seeded"], _ = draw()
    return told

def forked(start):
    reading, writing = os.pipe()
    if not (child := os.fork()):
        try:
            os.write(writing, json.dumps(copy(start)).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading) as pipe:
        told = pipe.read()
    os.waitpid(child, 0)
    return json.loads(told)

print(json.dumps({
    "copies": [forked(runner.place_ahead) for _ in range(2)],
    "as_they_are": [forked(lambda: None) for _ in range(2)],
}))
"""


def test_copies_of_a_snapshot_draw_different_pictures_and_the_same_for_a_seed(tmp_path: Path) -> None:
    """A copy is a fork of the process. Two that do not place what was read draw the same numbers, and load anew."""
    file = tmp_path / "models.json"
    file.write_text(json.dumps([{"pipeline": "text-to-image", "model_id": DEMO, "defaults": SMALL, "warm": True}]))
    told = script(COPIES, str(file), json.dumps(DRAW))
    (one, other), (plain, same) = told["copies"], told["as_they_are"]
    assert plain["numbers"][1:] == same["numbers"][1:]  # of `random`, Python itself sees to it where it forks
    assert not set(one["numbers"]) & set(other["numbers"])
    assert one["unseeded"] != other["unseeded"]
    assert one["reader"] != other["reader"]
    assert one["seeded"] == other["seeded"] == plain["seeded"]
    assert [copy["loaded"] for copy in (one, other, plain)] == [False, False, True]
