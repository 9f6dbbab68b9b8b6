"""What those see who look after a volume."""

import hashlib
import time
from pathlib import Path

import pytest

from shared.models.checks import BLOCK
from shared.models.inventory import Stored, damaged_files, stored, volume
from shared.models.transfer import Transfer
from tests.shared.models.folders import FILES, write_cached

COMMIT, OTHER = "2" * 40, "3" * 40


def only(root: Path) -> Stored:
    (model,) = stored([root], lambda model_id, commit: False, time.time())
    return model


def as_by_huggingface_hub(root: Path, size: int) -> Path:
    """A snapshot of one file of zeros, whose blob is named for its hash; returns the blob."""
    blob = root / "models--a--b" / "blobs" / hashlib.sha256(bytes(size)).hexdigest()
    blob.parent.mkdir(parents=True)
    blob.write_bytes(bytes(size))
    link = root / "models--a--b" / "snapshots" / COMMIT / "weights.safetensors"
    link.parent.mkdir(parents=True)
    link.symlink_to(blob)
    return blob


def test_hashing_tells_how_far_it_is(tmp_path: Path) -> None:
    as_by_huggingface_hub(tmp_path, 2 * BLOCK + 1)
    moments: list[Transfer] = []
    assert damaged_files(only(tmp_path), moments.append) == []
    assert [m.done for m in moments] == [0, BLOCK, 2 * BLOCK, 2 * BLOCK + 1]
    assert {m.total for m in moments} == {2 * BLOCK + 1}


def test_a_blob_that_changed_and_one_that_is_gone_are_damaged(tmp_path: Path) -> None:
    blob = as_by_huggingface_hub(tmp_path, 10)
    blob.write_bytes(b"another one")
    assert [str(d) for d in damaged_files(only(tmp_path))] == [
        "weights.safetensors has the right size and the wrong sha256"
    ]
    blob.unlink()
    assert [str(d) for d in damaged_files(only(tmp_path))] == ["weights.safetensors is missing"]


def test_a_volume_counts_each_file_once_and_what_is_unfinished(tmp_path: Path) -> None:
    blob = as_by_huggingface_hub(tmp_path, 1000)
    again = tmp_path / "models--a--b" / "snapshots" / OTHER / "weights.safetensors"
    again.parent.mkdir()
    again.hardlink_to(blob)
    (blob.parent / "abc.incomplete").write_bytes(bytes(300))
    (tmp_path / "models--c--d" / ".incoming" / "x").mkdir(parents=True)
    (tmp_path / "models--c--d" / ".incoming" / "x" / "part").write_bytes(bytes(200))
    found = volume(tmp_path)
    assert found.unfinished == 500
    assert 1500 <= found.taken < 1500 + 500  # the links are files too, of a few bytes
    assert found.free is None or found.free > 0


@pytest.mark.parametrize("revision", ["main", "pr/1", COMMIT, COMMIT[:7]])
def test_a_model_is_at_its_branches_and_its_commit(tmp_path: Path, revision: str) -> None:
    write_cached(tmp_path, "a/b", COMMIT, FILES, ref="main")
    (tmp_path / "models--a--b" / "refs" / "pr").mkdir()
    (tmp_path / "models--a--b" / "refs" / "pr" / "1").write_text(f"{COMMIT}\n")
    (tmp_path / "models--a--b" / "refs" / "old").write_text(OTHER)
    model = only(tmp_path)
    assert model.refs == ("main", "pr/1")
    assert model.is_at(revision)


@pytest.mark.parametrize("revision", ["old", "mai", COMMIT[:6], OTHER, "", "../refs/main"])
def test_a_model_is_at_no_other_revision(tmp_path: Path, revision: str) -> None:
    write_cached(tmp_path, "a/b", COMMIT, FILES, ref="main")
    assert not only(tmp_path).is_at(revision)
