"""Markers and refs: what older and newer workers, other tools and broken volumes leave of them."""

import json
import stat
from pathlib import Path

import pytest

from shared.models.checks import Record
from shared.models.published import Marker, marker_path, read_marker, replace_text, write_ref, wrong_sizes

COMMIT = "1" * 40
TOLD = {"model_id": "ours/small", "commit": COMMIT, "files": {"a.json": {"size": 2, "sha256": "0" * 64}}}


def test_what_a_newer_worker_adds_to_a_marker_is_passed_over(tmp_path: Path) -> None:
    newer = {**TOLD, "licence": "mit", "files": {"a.json": {"size": 2, "sha256": "0" * 64, "mode": 420}}}
    marker_path(tmp_path, COMMIT).write_text(json.dumps(newer))
    assert read_marker(tmp_path, COMMIT) == Marker("ours/small", COMMIT, {"a.json": Record(2, "0" * 64)})


def test_where_there_is_no_marker_there_is_none(tmp_path: Path) -> None:
    assert read_marker(tmp_path, COMMIT) is None


@pytest.mark.parametrize("nonsense", [b"", b"{", b"[]", b'{"files": 3}', b"\xff"])
def test_a_marker_that_says_nothing_is_that_of_a_damaged_model(tmp_path: Path, nonsense: bytes) -> None:
    repo = tmp_path / "models--Ours--Small--Model"
    repo.mkdir()
    marker_path(repo, COMMIT).write_bytes(nonsense)
    marker = read_marker(repo, COMMIT)
    assert marker == Marker("Ours/Small--Model", COMMIT, {}, readable=False)
    assert wrong_sizes(repo, marker) == ["the list of its files cannot be read"]


def test_a_marker_that_the_volume_does_not_give_out_may_be_another_tools(tmp_path: Path) -> None:
    marker_path(tmp_path, COMMIT).mkdir()  # reading it fails, for root too
    marker = read_marker(tmp_path, COMMIT)
    assert marker is not None
    assert (marker.readable, marker.shared) == (False, True)


@pytest.mark.parametrize(
    ("there", "written"), [("a", "a/b"), ("a", "a/b/c"), ("a/b", "a"), ("a/b/c", "a/b")], ids=lambda ref: ref
)
def test_a_ref_in_the_way_of_another_stays(tmp_path: Path, there: str, written: str) -> None:
    write_ref(tmp_path, there, COMMIT)
    write_ref(tmp_path, written, "2" * 40)
    assert [f for f in (tmp_path / "refs").rglob("*") if f.is_file()] == [tmp_path / "refs" / there]
    assert (tmp_path / "refs" / there).read_text() == COMMIT


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664])
def test_a_file_keeps_its_mode(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "models.json"
    file.write_text("[]")
    file.chmod(mode)
    replace_text(file, "[1]")
    assert (file.read_text(), stat.S_IMODE(file.stat().st_mode)) == ("[1]", mode)
