"""Work that needs no certain thread: it runs on its caller's, in its turn like any other."""

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from shared.errors import Cancelled, DeviceLost, InvalidInput
from shared.job import Job
from shared.lane import Lane
from tests.shared.lanes import WAIT_S, Broken, Held, job


def in_thread(lane: Lane, job: Job, work: Callable[[], Any]) -> threading.Thread:
    return threading.Thread(target=lane.run, args=(job, work), kwargs={"here": True})


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_work_that_needs_no_certain_thread_runs_where_it_is_called(lane: Lane) -> None:
    assert lane.run(job(), threading.get_ident, here=True) == threading.get_ident()
    assert lane.run(job(), threading.get_ident) != threading.get_ident()


def test_such_work_waits_for_its_turn_like_any_other(lane: Lane) -> None:
    first, ran = Held(job("first")), list[str]()
    held = lane.submit(first.job, first)
    assert first.running.wait(WAIT_S)
    later = [in_thread(lane, job(name), partial(ran.append, name)) for name in "ab"]
    for number, thread in enumerate(later, 1):
        thread.start()
        until(lambda: lane.waiting() == number)  # noqa: B023 called at once
    assert ran == []
    first.let_go.set()
    held.result(WAIT_S)
    for thread in later:
        thread.join(WAIT_S)
    assert ran == ["a", "b"]


def test_work_on_its_callers_thread_and_on_the_lanes_own_never_share_the_device(lane: Lane) -> None:
    inside, crowded = threading.Semaphore(1), list[str]()

    def work(name: str) -> str:
        if not inside.acquire(blocking=False):
            crowded.append(name)
            return name
        time.sleep(0.001)  # long enough for another one to come
        inside.release()
        return name

    here = [in_thread(lane, job(f"here-{n}"), partial(work, f"here-{n}")) for n in range(20)]
    for n, thread in enumerate(here):
        thread.start()
        lane.submit(job(f"own-{n}"), partial(work, f"own-{n}"))
    for thread in here:
        thread.join(WAIT_S)
    lane.submit(job(), list).result(WAIT_S)
    assert crowded == []


def test_what_work_on_its_callers_thread_raises_leaves_the_device_free(lane: Lane) -> None:
    def fail() -> None:
        raise InvalidInput("not this")

    with pytest.raises(InvalidInput, match="not this"):
        lane.run(job(), fail, here=True)
    assert lane.run(job("next"), lambda: "ran", here=True) == "ran"


def test_after_a_device_is_lost_nothing_runs_on_its_callers_thread_either(lane: Lane) -> None:
    def fail() -> None:
        raise Broken

    with pytest.raises(DeviceLost):
        lane.run(job(), fail, here=True)
    stopped = job("late")
    ran: list[str] = []

    def run() -> None:
        with pytest.raises(Cancelled):
            lane.run(stopped, lambda: ran.append("ran"), here=True)

    late = threading.Thread(target=run)
    late.start()
    until(lambda: lane.waiting() == 1)
    stopped.cancel.cancel("the process ends")
    late.join(WAIT_S)
    assert not late.is_alive()
    assert ran == []
