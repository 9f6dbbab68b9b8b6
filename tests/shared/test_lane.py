"""The lane: order, cancellation, deadlines, and how many jobs it runs at once."""

import gc
import threading
import weakref
from collections.abc import Callable

import pytest

from shared.errors import Cancelled, DeadlineExceeded, InvalidInput, forget_frames
from shared.lane import Lane
from tests.clock import Clock
from tests.shared.lanes import WAIT_S, Held, classify, job


def test_runs_jobs_one_at_a_time_in_their_order(lane: Lane) -> None:
    ran: list[str] = []
    inside = threading.Semaphore(1)

    def work(name: str) -> Callable[[], None]:
        def run() -> None:
            assert inside.acquire(blocking=False), "two jobs were on the device at once"
            ran.append(name)
            inside.release()

        return run

    names = [f"job-{n}" for n in range(50)]
    futures = [lane.submit(job(name), work(name)) for name in names]
    for future in futures:
        future.result(WAIT_S)
    assert ran == names


def test_a_running_job_stops_at_its_next_check_and_the_next_one_starts(lane: Lane) -> None:
    first, second = Held(job("first")), Held(job("second"))
    ended = lane.submit(first.job, first)
    lane.submit(second.job, second)
    assert first.running.wait(WAIT_S)
    assert not second.running.is_set()
    first.job.cancel.cancel("asked")
    with pytest.raises(Cancelled, match="asked"):
        ended.result(WAIT_S)
    assert second.running.wait(WAIT_S)
    second.let_go.set()


def test_a_waiting_job_leaves_the_queue_when_cancelled_without_touching_the_device(lane: Lane) -> None:
    first, second = Held(job("first")), Held(job("second"))
    lane.submit(first.job, first)
    waiting = lane.submit(second.job, second)
    assert first.running.wait(WAIT_S)
    second.job.cancel.cancel("asked")
    with pytest.raises(Cancelled):
        waiting.result(WAIT_S)
    assert lane.waiting() == 0
    first.let_go.set()
    assert not second.running.is_set()


def test_a_job_cancelled_before_it_is_submitted_never_runs(lane: Lane) -> None:
    cancelled = Held(job())
    cancelled.job.cancel.cancel("asked")
    with pytest.raises(Cancelled):
        lane.submit(cancelled.job, cancelled).result(WAIT_S)
    assert not cancelled.running.is_set()


def test_a_job_over_its_deadline_stops_at_its_next_check(lane: Lane) -> None:
    clock = Clock()
    late = Held(job(clock=clock, timeout_s=5))
    late.job.start_clock(default_timeout_s=600)
    ended = lane.submit(late.job, late)
    assert late.running.wait(WAIT_S)
    clock.now = 5.1
    with pytest.raises(DeadlineExceeded):
        ended.result(WAIT_S)


def test_knows_which_jobs_it_holds(lane: Lane) -> None:
    running, waiting, other = Held(job("running")), Held(job("waiting")), job("other")
    ended = lane.submit(running.job, running)
    lane.submit(waiting.job, waiting)
    assert running.running.wait(WAIT_S)
    assert [lane.holds(j) for j in (running.job, waiting.job, other)] == [True, True, False]
    running.let_go.set()
    ended.result(WAIT_S)
    assert not lane.holds(running.job)
    waiting.let_go.set()


@pytest.mark.parametrize("fails", [False, True])
def test_an_ended_job_holds_nothing_of_its_work(lane: Lane, fails: bool) -> None:
    """Else its pictures and tensors stay until the garbage collector happens to run."""

    class Picture:
        pass

    def work_on(picture: Picture) -> Callable[[], None]:
        def work() -> None:
            if fails:
                raise InvalidInput(repr(picture))

        return work

    gc.disable()
    try:
        ended, picture = job(), Picture()
        seen = weakref.ref(picture)
        future = lane.submit(ended, work_on(picture))
        del picture
        error = future.exception(WAIT_S)
        assert (error is not None) == fails
        if error is not None:
            forget_frames(error)
        del future, error
        lane.submit(job(), lambda: None).result(WAIT_S)  # the lane has let go of the one before
        assert seen() is None
    finally:
        gc.enable()


def test_a_handler_cannot_swallow_a_stop(lane: Lane) -> None:
    stubborn = job()
    running = threading.Event()

    def work() -> str:
        while True:
            try:
                running.set()
                stubborn.check()
            except Exception:  # noqa: BLE001, S112 what careless handlers do
                continue

    ended = lane.submit(stubborn, work)
    assert running.wait(WAIT_S)
    stubborn.cancel.cancel("asked")
    with pytest.raises(Cancelled):
        ended.result(WAIT_S)


def test_a_wider_lane_starts_what_waits(lane: Lane) -> None:
    first, second, third = (Held(job(name)) for name in ("first", "second", "third"))
    ended = [lane.submit(held.job, held) for held in (first, second, third)]
    assert first.running.wait(WAIT_S)
    assert not second.running.is_set()
    lane.widen(2)
    assert second.running.wait(WAIT_S)
    assert (lane.slots, lane.waiting()) == (2, 1)
    second.let_go.set()
    assert third.running.wait(WAIT_S)
    for held in (first, third):
        held.let_go.set()
    assert [future.result(WAIT_S) for future in ended] == ["first", "second", "third"]


def test_a_lane_never_gets_narrower(lane: Lane) -> None:
    lane.widen(3)
    lane.widen(1)
    assert lane.slots == 3


def test_a_job_cancelled_beside_another_stops_alone() -> None:
    lane = Lane(classify, lambda *, everything: None, slots=2)
    first, second = Held(job("first")), Held(job("second"))
    ended = [lane.submit(held.job, held) for held in (first, second)]
    assert first.running.wait(WAIT_S)
    assert second.running.wait(WAIT_S)
    first.job.cancel.cancel("asked")
    with pytest.raises(Cancelled):
        ended[0].result(WAIT_S)
    assert (lane.holds(first.job), lane.holds(second.job)) == (False, True)
    second.let_go.set()
    assert ended[1].result(WAIT_S) == "second"
    lane.close()
