"""What is stored, told for a table, verified against the hub's hashes, and repaired."""

import errno
import hashlib
import os
import shutil
import threading
import time
from pathlib import Path

import pytest

from shared.errors import ModelUnavailable
from shared.models.cached import folder_name
from shared.models.inventory import Stored
from shared.models.published import marker_path, read_marker
from shared.models.store import Store
from shared.models.wanted import wanted_files
from tests.shared.models.folders import FILES, REMOTE, write_cached
from tests.shared.models.hub_server import HubServer, git_sha1, held, refusal
from tests.shared.models.stores import MODEL, NEW, OLD, QUANTISED, TEXT, entry, store, text_entry

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
    ours.repair(model, damaged)
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
        ours.repair(model, ours.verify(model))


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


Q4, Q8 = "small-q4.gguf", "small-q8.gguf"


def only(ours: Store, model_id: str = MODEL) -> Stored:
    (model,) = [m for m in ours.stored() if m.model_id == model_id]
    return model


def test_of_several_models_in_one_repository_all_that_is_damaged_is_repaired(
    tmp_path: Path, served: HubServer
) -> None:
    served.add(TEXT, QUANTISED)
    ours = store(tmp_path, hub_url=served.url)
    path = ours.ensure(text_entry(TEXT, Q4)).path.parent
    ours.ensure(text_entry(TEXT, Q8))
    for name in (Q4, Q8):
        (path / name).write_bytes(b"x")
    served.gets.clear()
    ours.repair(only(ours, TEXT), ours.verify(only(ours, TEXT)))
    assert served.gets == {Q4: 1, Q8: 1}
    assert {name: (path / name).read_bytes() for name in (Q4, Q8)} == {name: QUANTISED[name] for name in (Q4, Q8)}
    assert only(ours, TEXT).ours
    assert ours.verify(only(ours, TEXT)) == []
    ours.close()


def test_a_repair_fetches_the_damaged_text_and_no_weights(tmp_path: Path, served: HubServer) -> None:
    ours = store(tmp_path, hub_url=served.url)
    text = ours.ensure(entry()).path / "unet/config.json"
    text.write_bytes(b"[]")
    served.gets.clear()
    ours.repair(only(ours), ours.verify(only(ours)))
    assert served.gets == {"unet/config.json": 1}
    assert text.read_bytes() == REMOTE["unet/config.json"]


def test_what_cannot_be_fetched_stays_as_it_is(tmp_path: Path, served: HubServer) -> None:
    ours = store(tmp_path, hub_url=served.url)
    weights = ours.ensure(entry()).path / WEIGHTS
    weights.write_bytes(b"damaged")
    damaged = ours.verify(only(ours))
    served.instead[f"/{MODEL}/resolve/{NEW}/{WEIGHTS}"] = refusal(403, "Forbidden")
    with pytest.raises(ModelUnavailable, match="cannot be fetched"):
        ours.repair(only(ours), damaged)
    del served.repos[MODEL]
    with pytest.raises(ModelUnavailable, match="the hub has no"):
        ours.repair(only(ours), damaged)
    assert weights.read_bytes() == b"damaged"
    served.instead.clear()
    served.add(MODEL, {name: data for name, data in REMOTE.items() if name != WEIGHTS}, NEW)
    with pytest.raises(ModelUnavailable, match=f"the hub has no {WEIGHTS} of '{MODEL}' any more"):
        ours.repair(only(ours), damaged)
    assert weights.read_bytes() == b"damaged"
    assert not (tmp_path / folder_name(MODEL) / ".incoming").exists()


def test_a_file_that_could_not_be_read_for_once_is_not_lost(
    tmp_path: Path, served: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = store(tmp_path, hub_url=served.url)
    weights = ours.ensure(entry()).path / WEIGHTS
    really = os.fsync

    def fsync(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").readlink() == weights:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        really(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        damaged = ours.verify(only(ours))
    assert [str(d) for d in damaged] == [f"{WEIGHTS} cannot be read (Input/output error)"]
    served.repos.clear()
    with pytest.raises(ModelUnavailable, match="the hub has no"):
        ours.repair(only(ours), damaged)
    assert weights.read_bytes() == REMOTE[WEIGHTS]
    assert ours.verify(only(ours)) == []


def test_a_model_whose_marker_cannot_be_read_is_damaged_and_repaired_by_the_hubs_hashes(
    tmp_path: Path, served: HubServer
) -> None:
    ours = store(tmp_path, hub_url=served.url)
    weights = ours.ensure(entry()).path / WEIGHTS
    before = read_marker(only(ours).repo, NEW)
    size = only(ours).bytes
    marker_path(only(ours).repo, NEW).write_text("{")
    weights.write_bytes(bytes(len(REMOTE[WEIGHTS])))
    assert (only(ours).complete, only(ours).ours, only(ours).bytes) == (False, True, size)
    damaged = ours.verify(only(ours))
    assert [str(d) for d in damaged] == [f".published-{NEW}.json cannot be read"]
    served.gets.clear()
    ours.repair(only(ours), damaged)
    assert served.gets == {WEIGHTS: 1}
    after = read_marker(only(ours).repo, NEW)
    assert before
    assert after
    assert (after.files, after.shared) == (before.files, False)
    assert ours.find(entry())


def test_a_model_that_was_evicted_meanwhile_is_not_repaired(tmp_path: Path, served: HubServer) -> None:
    ours = store(tmp_path, hub_url=served.url)
    weights = ours.ensure(entry()).path / WEIGHTS
    weights.write_bytes(b"damaged")
    model = only(ours)
    damaged = ours.verify(model)
    assert ours.evict(model)
    with pytest.raises(ModelUnavailable, match="was evicted while it was verified"):
        ours.repair(model, damaged)
    assert list(tmp_path.iterdir()) == []


class Cancelled(Exception):
    pass


def test_a_job_that_waits_for_a_model_that_was_evicted_is_told_of_it_and_can_leave(
    tmp_path: Path, served: HubServer
) -> None:
    ours = store(tmp_path, hub_url=served.url)
    source = ours.ensure(entry())
    shutil.rmtree(source.path)
    gate, told = threading.Event(), list[int]()
    served.faults[WEIGHTS] = [held(gate)]

    def check() -> None:
        if told:
            raise Cancelled

    with (
        pytest.raises(Cancelled),
        ours.hold(entry(), source, on_download=lambda moment: told.append(moment.done), check=check),
    ):
        pass
    gate.set()
    ours.close()
