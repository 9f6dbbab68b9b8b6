"""What a worker reads is seen by all others as long as it reads it, however many begin and end beside it."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shared.models.readers import AHEAD_S, FOLDER, STALE_S, Readers, is_read, remove_dead
from shared.models.space import tidy

COMMIT = "c" * 40
DAY_S = 24 * 3600.0


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    folder = tmp_path / "models--a--b"
    (folder / "snapshots" / COMMIT).mkdir(parents=True)
    return folder


@contextmanager
def going_on(*works: Callable[[], None]) -> Iterator[None]:
    """Each of these again and again, in a thread of its own, within the block."""
    ended = threading.Event()
    failed: list[BaseException] = []

    def repeat(work: Callable[[], None]) -> None:
        try:
            while not ended.is_set():
                work()
        except BaseException as exc:  # noqa: BLE001 raised again below
            failed.append(exc)

    threads = [threading.Thread(target=repeat, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    for exc in failed:
        raise exc


def shown(repo: Path, *, but: Path | None = None) -> list[Path]:
    return [file for file in (repo / FOLDER).glob("*") if file != but]


def test_what_is_loaded_is_seen_whoever_begins_and_ends_beside_it(repo: Path) -> None:
    """Other workers hold and release; the lease's end tidies the folder away whenever it is empty."""

    worker, other = Readers(), Readers()

    def job() -> None:
        with other.hold(repo, COMMIT):
            pass

    file, lost = repo / FOLDER / name_of(worker, repo), 0
    with going_on(job, *[lambda: tidy(repo)] * 2):
        for _ in range(500):
            worker.loaded([(repo, COMMIT)])
            lost += not file.exists()
            worker.loaded([])
    assert lost == 0
    assert shown(repo) == []
    worker.close()
    other.close()


def name_of(readers: Readers, repo: Path) -> str:
    """What its file is called."""
    with readers.hold(repo, COMMIT):
        (file,) = shown(repo)
    return file.name


def test_what_one_job_lets_go_another_of_the_same_worker_still_shows(
    repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One is at the removal of the file when the other begins."""
    readers, removing, begun = Readers(), threading.Event(), threading.Event()
    really = Path.unlink

    def unlink(file: Path) -> None:
        removing.set()
        begun.wait(0.2)  # in vain where the other cannot begin before the file is gone
        really(file)

    def job() -> None:
        with readers.hold(repo, COMMIT):
            pass

    monkeypatch.setattr(Path, "unlink", unlink)
    ending = threading.Thread(target=job)
    ending.start()
    assert removing.wait(60)
    with readers.hold(repo, COMMIT):
        begun.set()
        ending.join()
        assert is_read(repo, COMMIT, time.time())
    assert not is_read(repo, COMMIT, time.time())
    assert readers.reading() == set()
    readers.close()


def test_what_was_removed_comes_back_with_the_next_heartbeat(repo: Path) -> None:
    readers = Readers(beat_s=0.01)
    readers.loaded([(repo, COMMIT)])
    (file,) = shown(repo)
    file.unlink()
    (repo / FOLDER).rmdir()
    while not file.exists():  # ends, or the test's time does
        time.sleep(0.001)
    readers.close()
    assert shown(repo) == []


def test_a_model_that_is_gone_gets_no_folder(tmp_path: Path) -> None:
    readers = Readers()
    with readers.hold(tmp_path / "models--a--gone", COMMIT):
        assert list(tmp_path.iterdir()) == []
    readers.close()


def of_another(repo: Path, age_s: float) -> Path:
    """The file of a worker that showed itself so long ago."""
    file = repo / FOLDER / f"{COMMIT}-{age_s}"
    file.parent.mkdir(exist_ok=True)
    file.touch()
    os.utime(file, (time.time() - age_s,) * 2)
    return file


@pytest.mark.parametrize(
    ("age_s", "lives"),
    [(0, True), (STALE_S - 60, True), (STALE_S + 60, False), (60 - AHEAD_S, True), (-30 * DAY_S, False)],
)
def test_the_dead_are_told_by_their_files_time(repo: Path, age_s: float, lives: bool) -> None:
    file = of_another(repo, age_s)
    assert is_read(repo, COMMIT, time.time()) == lives
    remove_dead(repo, time.time())
    assert file.exists() == lives


def test_whoever_loads_a_model_removes_what_the_dead_have_left(repo: Path) -> None:
    for hours in range(1, 50):
        of_another(repo, 3600.0 * hours)
    living = of_another(repo, 60)
    readers = Readers()
    readers.loaded([(repo, COMMIT)])
    assert len(shown(repo, but=living)) == 1
    readers.close()
    assert shown(repo) == [living]
