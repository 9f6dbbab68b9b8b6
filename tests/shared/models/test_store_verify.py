"""What is stored, told for a table, verified against the hub's hashes, and repaired."""

import hashlib
import os
import time
from pathlib import Path

import pytest

from shared.errors import ModelUnavailable
from shared.models.store import Store
from shared.models.wanted import wanted_files
from tests.shared.models.folders import FILES, REMOTE, write_cached
from tests.shared.models.hub_server import HubServer, git_sha1
from tests.shared.models.stores import MODEL, NEW, OLD, entry, store

WEIGHTS = "unet/diffusion_pytorch_model.fp16.safetensors"


def test_a_flipped_byte_is_found_by_hash_named_and_repaired(tmp_path: Path, served: HubServer) -> None:
    ours = store(tmp_path, hub_url=served.url)
    weights = ours.ensure(entry()).path / WEIGHTS
    (model,) = [m for m in ours.stored() if m.model_id == MODEL]
    assert ours.verify(model) == []
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert ours.find(entry()) is not None  # at load sizes are compared, no more
    damaged = ours.verify(model)
    assert [str(d) for d in damaged] == [f"{WEIGHTS} has the right size and the wrong sha256"]
    assert weights.exists()
    served.gets.clear()
    assert ours.repair(entry(), model, damaged).revision == NEW
    assert served.gets == {WEIGHTS: 1}
    assert ours.verify(model) == []


def test_missing_truncated_and_unreadable_files_are_named_by_verify(tmp_path: Path, served: HubServer) -> None:
    ours = store(tmp_path, hub_url=served.url)
    path = ours.ensure(entry()).path
    (model,) = [m for m in ours.stored() if m.model_id == MODEL]
    (path / "unet/config.json").unlink()
    os.truncate(path / WEIGHTS, 7)
    assert {d.name: d.what for d in ours.verify(model)} == {
        "unet/config.json": "is missing",
        WEIGHTS: f"has 7 bytes and should have {len(REMOTE[WEIGHTS])}",
    }
    (model,) = [m for m in ours.stored() if m.model_id == MODEL]
    assert not model.complete


def test_another_tools_model_is_verified_by_the_names_of_its_blobs(tmp_path: Path) -> None:
    snapshot = write_cached(tmp_path, MODEL, OLD)
    blobs = snapshot.parent.parent / "blobs"
    weights = "unet/diffusion_pytorch_model.safetensors"
    for name, hashed in (
        (weights, hashlib.sha256(FILES[weights]).hexdigest()),
        ("unet/config.json", git_sha1(b"{}")),
    ):
        (snapshot / name).unlink()
        (blobs / hashed).write_bytes(FILES[name])
        (snapshot / name).symlink_to(blobs / hashed)
    ours = store(tmp_path)
    (model,) = [m for m in ours.stored() if m.model_id == MODEL]
    assert (model.revision, model.complete, model.ours, model.last_used) == (OLD, True, False, None)
    assert model.bytes == sum(len(data) for data in FILES.values())
    assert ours.verify(model) == []
    (snapshot / weights).resolve().write_bytes(b"weightz")
    (snapshot / "unet/config.json").resolve().write_bytes(b"[]")
    assert {d.name for d in ours.verify(model)} == {weights, "unet/config.json"}
    with pytest.raises(ModelUnavailable, match="downloaded by another tool"):
        ours.repair(entry(), model, ours.verify(model))


def test_what_is_stored_is_told_with_all_that_a_table_needs(tmp_path: Path, served: HubServer) -> None:
    ours = Store(tmp_path, volumes=(), hub_url=served.url, pinned=[(MODEL, NEW)])
    source = ours.ensure(entry())
    (model,) = [m for m in ours.stored() if m.model_id == MODEL]
    assert (model.revision, model.path, model.pinned, model.complete, model.in_use, model.ours) == (
        NEW, source.path, True, True, False, True,
    )  # fmt: skip
    assert model.bytes == sum(len(REMOTE[name]) for name in wanted_files(list(REMOTE)))
    assert model.last_used == pytest.approx(time.time(), abs=3600)
    with ours.hold(entry(), source):
        assert [m.in_use for m in ours.stored() if m.model_id == MODEL] == [True]
