"""Checkpoints of random weights, made once a session, a runner for them, and a lane."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.lane import Lane
from shared.runner import Runner
from tests.shared.lanes import classify
from tests.shared.models.folders import write_files
from tests.shared.runners import DEMO, SMALL, make

Checkpoint = Callable[[str], Path]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """The folder of a tiny checkpoint by its name in `tiny.CHECKPOINTS`; made when it is first wanted."""
    import torch

    from tests.shared.models.tiny import CHECKPOINTS

    torch.set_num_threads(1)  # tiny tensors: a second thread only waits for the first
    made: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in made:
            made[name] = CHECKPOINTS[name](tmp_path_factory.mktemp("checkpoints") / name)
        return made[name]

    return folder


@pytest.fixture(scope="module")
def models(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models.json: the demo model for both pipelines, one that finds all indecent, and a folder for `trouble`."""
    folder = tmp_path_factory.mktemp("runner")
    entries: list[dict[str, Any]] = [
        {"pipeline": "text-to-image", "model_id": DEMO, "defaults": SMALL},
        {"pipeline": "text-to-image", "model_id": str(checkpoint("sd-checked")), "defaults": SMALL},
        {"pipeline": "text-to-image", "model_id": "demo/not-there"},
        {"pipeline": "image-to-image", "model_id": DEMO, "defaults": SMALL},
        {"pipeline": "trouble", "model_id": str(write_files(folder / "trouble"))},
    ]
    file = folder / "models.json"
    file.write_text(json.dumps(entries))
    return file


@pytest.fixture(scope="module")
def runner(models: Path) -> Runner:
    """For all tests that leave nothing behind."""
    return make(models)


@pytest.fixture
def freed() -> list[str]:
    """How much the lane gave back, each time that memory ran out."""
    return []


@pytest.fixture
def lane(freed: list[str]) -> Iterator[Lane]:
    lane = Lane(classify, lambda *, everything: freed.append("everything" if everything else "some"))
    yield lane
    lane.close()
