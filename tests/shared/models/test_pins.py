"""What is pinned: the models that the catalog says, and what their files cannot be loaded without."""

import json
import struct
from pathlib import Path

import pytest

from shared.errors import ModelUnavailable
from shared.models.catalog import Entry
from shared.models.inventory import Stored
from shared.models.single_file import KINDS, SD1
from shared.models.store import Store
from tests.shared.models.folders import REMOTE
from tests.shared.models.hub_server import HubServer

MINE, FILE, COMMIT = "Ours/Mine", "mine.safetensors", "a" * 40
CONFIGURATION, ITS_COMMIT = KINDS[SD1, 4].configuration, "d" * 40
ENTRY = Entry(pipeline="text-to-image", model_id=f"{MINE}/{FILE}", revision=COMMIT)
TENSORS = {
    "model.diffusion_model.input_blocks.0.0.weight": [1, 4, 1, 1],
    "cond_stage_model.transformer.a": [4],
    "first_stage_model.a": [4],
}


def checkpoint() -> bytes:
    """The header of a Stable Diffusion 1 in one file, with four numbers for each of its parts."""
    parts = {
        name: {"dtype": "F32", "shape": shape, "data_offsets": [16 * n, 16 * n + 16]}
        for n, (name, shape) in enumerate(TENSORS.items())
    }
    header = json.dumps(parts).encode()
    return struct.pack("<Q", len(header)) + header + bytes(16 * len(TENSORS))


@pytest.fixture
def volume(tmp_path: Path, served: HubServer) -> Path:
    """A file, and the configuration that was fetched for it."""
    served.add(MINE, {FILE: checkpoint()}, COMMIT)
    served.add(CONFIGURATION, REMOTE, ITS_COMMIT)
    ours = store(tmp_path, served)
    assert ours.ensure(ENTRY).options["config_revision"] == ITS_COMMIT
    ours.close()
    return tmp_path


def store(root: Path, served: HubServer, *pinned: tuple[str, str]) -> Store:
    return Store(root, volumes=(), hub_url=served.url, pinned=pinned)


def configuration(ours: Store) -> Stored:
    (found,) = [m for m in ours.stored() if m.model_id == CONFIGURATION]
    return found


@pytest.mark.parametrize("model_id", [MINE, MINE.lower()])
def test_the_configuration_of_a_pinned_file_is_pinned(volume: Path, served: HubServer, model_id: str) -> None:
    ours = store(volume, served, (model_id, COMMIT))
    assert configuration(ours).pinned
    assert not ours.evict(configuration(ours))
    del served.repos[CONFIGURATION]
    assert ours.ensure(ENTRY).options["config_revision"] == ITS_COMMIT


@pytest.mark.parametrize("pin", [(MINE, "b" * 40), ("Ours/Other", COMMIT)])
def test_the_configuration_of_any_other_file_is_not(volume: Path, served: HubServer, pin: tuple[str, str]) -> None:
    ours = store(volume, served, pin)
    assert not configuration(ours).pinned
    assert ours.evict(configuration(ours))
    del served.repos[CONFIGURATION]
    with pytest.raises(ModelUnavailable):
        ours.ensure(ENTRY)
