"""One holder at a time: by renames that only one can win, with the dead told from the slow."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from shared.models.lease import FOLDER, Lease, LeaseLost, Timing, Waiter, read_holder
from shared.settings import inherited
from tests.clock import Clock

ROOT = Path(__file__).parents[3]
QUIET = Timing(beat_s=3600, stale_s=10)  # no heartbeat by itself within a test


def waiter(repo: Path, clock: Clock) -> Waiter:
    return Waiter(repo, QUIET, clock)


def taken(waiter: Waiter) -> Lease:
    lease = waiter.attempt()
    assert lease is not None
    return lease


def leftovers(repo: Path) -> list[str]:
    return sorted(f.relative_to(repo).as_posix() for f in repo.rglob("*") if f.name != ".incoming")


def test_one_holds_it_until_it_gives_it_back(tmp_path: Path, clock: Clock) -> None:
    with taken(waiter(tmp_path, clock)):
        assert waiter(tmp_path, clock).attempt() is None
    with taken(waiter(tmp_path, clock)):
        pass
    assert leftovers(tmp_path) == []


def test_an_error_gives_it_back_too(tmp_path: Path, clock: Clock) -> None:
    with pytest.raises(ZeroDivisionError), taken(waiter(tmp_path, clock)):
        raise ZeroDivisionError
    assert leftovers(tmp_path) == []


def test_those_who_wait_see_how_far_the_holder_is(tmp_path: Path, clock: Clock) -> None:
    second = waiter(tmp_path, clock)
    with taken(waiter(tmp_path, clock)) as lease:
        lease.note(30, 90)
        lease.beat()
        assert second.attempt() is None
        assert second.holder is not None
        assert (second.holder.pid, second.holder.done, second.holder.total) == (os.getpid(), 30, 90)


def test_a_holder_without_heartbeats_is_dead_after_the_time_for_that(tmp_path: Path, clock: Clock) -> None:
    first, second = taken(waiter(tmp_path, clock)), waiter(tmp_path, clock)
    assert second.attempt() is None
    clock.now = 9.9
    assert second.attempt() is None
    clock.now = 10.1
    heir = taken(second)
    with pytest.raises(LeaseLost):
        first.check()
    heir.check()


def test_each_heartbeat_counts_as_a_sign_of_life(tmp_path: Path, clock: Clock) -> None:
    first, second = taken(waiter(tmp_path, clock)), waiter(tmp_path, clock)
    for second_s in range(0, 60, 9):
        clock.now = float(second_s)
        assert second.attempt() is None
        first.beat()


def test_the_clocks_of_other_machines_do_not_matter(tmp_path: Path, clock: Clock) -> None:
    first, second = taken(waiter(tmp_path, clock)), waiter(tmp_path, clock)
    for now in (0.0, 5.0):
        clock.now = now
        token = tmp_path / FOLDER / first.token
        os.utime(token, (1e9 + now, 1e9 + now))  # years behind, and moving
        assert second.attempt() is None
    os.utime(token, (9e9, 9e9))  # years ahead, and dead
    assert second.attempt() is None
    clock.now = 16.0
    taken(second)


def test_a_slow_holder_learns_from_its_heartbeat_that_it_lost(tmp_path: Path, clock: Clock) -> None:
    first, second = taken(waiter(tmp_path, clock)), waiter(tmp_path, clock)
    second.attempt()
    clock.now = 11.0
    with first:
        heir = taken(second)
        assert not first.beat()
    heir.check()  # giving back what was lost takes nothing from the heir


def test_a_slow_waiter_cannot_take_it_from_the_heir_of_the_dead(tmp_path: Path, clock: Clock) -> None:
    taken(waiter(tmp_path, clock))
    fast, slow = waiter(tmp_path, clock), waiter(tmp_path, clock)
    fast.attempt()
    slow.attempt()
    dead = slow.holder
    assert dead is not None
    clock.now = 11.0
    heir = taken(fast)
    assert not slow._take_over(dead, "too-late")
    heir.check()


def test_of_many_heirs_one_takes_over(tmp_path: Path, clock: Clock) -> None:
    taken(waiter(tmp_path, clock))
    heirs = [waiter(tmp_path, clock) for _ in range(16)]
    for heir in heirs:
        heir.attempt()
    clock.now = 11.0
    start, won = threading.Barrier(len(heirs)), []

    def race(heir: Waiter) -> None:
        start.wait()
        if lease := heir.attempt():
            won.append(lease)

    threads = [threading.Thread(target=race, args=(heir,)) for heir in heirs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) >= 1
    assert [lease for lease in won if holds(lease)] == [lease for lease in won if lease.token == holder_of(tmp_path)]


def holds(lease: Lease) -> bool:
    try:
        lease.check()
    except LeaseLost:
        return False
    return True


def holder_of(repo: Path) -> str | None:
    holder = read_holder(repo)
    return holder.token if holder else None


def test_an_empty_folder_of_one_killed_while_giving_back_is_free(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / FOLDER).mkdir()
    with taken(waiter(tmp_path, clock)):
        assert waiter(tmp_path, clock).attempt() is None


def test_a_holder_killed_before_its_first_heartbeat_is_taken_over(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "killed").touch()
    second = waiter(tmp_path, clock)
    assert second.attempt() is None
    clock.now = 11.0
    taken(second)


def test_a_folder_that_cannot_be_written_is_an_error_and_not_a_wait(tmp_path: Path, clock: Clock) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    with pytest.raises(OSError, match="file"):
        waiter(blocked, clock).attempt()


COUNT = """
import os, sys, time
from pathlib import Path
from shared.models.lease import Timing, Waiter
repo, rounds = Path(sys.argv[1]), int(sys.argv[2])
for _ in range(rounds):
    waiter = Waiter(repo, Timing(beat_s=0.2, stale_s=30))
    while not (lease := waiter.attempt()):
        time.sleep(0.002)
    with lease:
        number = int((repo / "number").read_text())
        (repo / "number").write_text(str(number + 1))
"""


def test_processes_that_count_under_the_lease_lose_no_count(tmp_path: Path) -> None:
    (tmp_path / "number").write_text("0")
    command = [sys.executable, "-c", COUNT, str(tmp_path), "40"]
    processes = [subprocess.Popen(command, cwd=ROOT, env=inherited()) for _ in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
    assert (tmp_path / "number").read_text() == "160"
    assert leftovers(tmp_path) == ["number"]
