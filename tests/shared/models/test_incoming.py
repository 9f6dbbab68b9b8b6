"""What downloads have left: gone when it is old, and never under the hands of one who goes on with it."""

import os
import threading
import time
from pathlib import Path

import pytest

from shared.models import incoming
from shared.models.cached import folder_name
from shared.models.lease import PREPARED, Timing, Waiter, read_holder
from tests.shared.models.folders import FILES, write_files

QUICK = Timing(beat_s=0.05, stale_s=0.3)


def grown_old(folder: Path) -> Path:
    """The folder, last written over a day ago."""
    long_ago = time.time() - incoming.OLD_S - 60
    for path in (folder, *folder.rglob("*")):
        os.utime(path, (long_ago, long_ago))
    return folder


def left_by_the_dead(repo: Path) -> Path:
    return grown_old(write_files(repo / incoming.FOLDER / "dead", FILES))


def test_a_sweep_leaves_what_one_has_adopted_after_it_looked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that are adopted keep the times that they had."""
    repo = tmp_path / folder_name("Ours/A")
    left_by_the_dead(repo)
    lease = None
    really = incoming._old

    def slow(folder: Path, now: float) -> list[Path]:
        nonlocal lease
        found = really(folder, now)
        if lease is None and found:
            lease = Waiter(repo, QUICK).attempt()
            assert lease is not None
            grown_old(incoming.adopt(repo, lease.token))
        return found

    monkeypatch.setattr(incoming, "_old", slow)
    incoming.sweep(tmp_path)
    assert lease is not None
    mine = repo / incoming.FOLDER / lease.token
    assert {f.relative_to(mine).as_posix() for f in mine.rglob("*") if f.is_file()} == set(FILES)


def test_while_one_sweeps_nobody_adopts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repo = tmp_path / folder_name("Ours/A")
    folder = left_by_the_dead(repo)
    removing, go_on = threading.Event(), threading.Event()
    really = incoming.remove

    def remove(old: Path) -> None:
        removing.set()
        assert go_on.wait(60)
        really(old)

    monkeypatch.setattr(incoming, "remove", remove)
    sweeping = threading.Thread(target=incoming.sweep, args=(tmp_path,))
    sweeping.start()
    assert removing.wait(60)
    taken = Waiter(repo, QUICK).attempt()
    go_on.set()
    sweeping.join()
    assert taken is None
    assert not folder.exists()
    assert read_holder(repo) is None
    assert Waiter(repo, QUICK).attempt()


def test_what_one_left_who_was_killed_while_it_took_the_lease_of_the_volume_is_removed(tmp_path: Path) -> None:
    prepared = tmp_path / incoming.FOLDER / f"{PREPARED}dead"
    write_files(prepared, {"dead": b""})
    incoming.sweep(tmp_path)
    assert prepared.exists()
    grown_old(prepared)
    incoming.sweep(tmp_path)
    assert list(tmp_path.iterdir()) == []
