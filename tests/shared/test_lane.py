"""The lane: order, cancellation, deadlines, and what a failing device does to the jobs behind."""

import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from shared.errors import Cancelled, DeadlineExceeded, DeviceLost, InvalidInput, OutOfMemory, Ruin, forget_frames
from shared.job import Job
from shared.lane import Lane
from tests.clock import Clock

WAIT_S = 20


class OutOfPaper(RuntimeError):
    """Stands for torch.OutOfMemoryError."""


class Broken(RuntimeError):
    """Stands for a CUDA error."""


def classify(exc: BaseException) -> Ruin | None:
    return "out_of_memory" if isinstance(exc, OutOfPaper) else "device_lost" if isinstance(exc, Broken) else None


@pytest.fixture
def freed() -> list[str]:
    return []


@pytest.fixture
def lane(freed: list[str]) -> Iterator[Lane]:
    lane = Lane(classify, lambda *, everything: freed.append("everything" if everything else "some"))
    yield lane
    lane.close()


class Held:
    """Work that holds the lane until it is let go, and stops when its job is told to."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.running = threading.Event()
        self.let_go = threading.Event()

    def __call__(self) -> str:
        self.running.set()
        while not self.let_go.wait(0.005):
            self.job.check()
        return self.job.id


def job(name: str = "job", **more: Any) -> Job:
    return Job(name, {}, **more)


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


def test_out_of_memory_frees_and_tries_once_more(lane: Lane, freed: list[str]) -> None:
    attempts: list[int] = []

    def work() -> str:
        attempts.append(1)
        if len(attempts) == 1:
            raise OutOfPaper
        return "done"

    assert lane.submit(job(), work).result(WAIT_S) == "done"
    assert len(attempts) == 2
    assert freed == ["some"]


def test_out_of_memory_twice_ends_that_job_alone(lane: Lane, freed: list[str]) -> None:
    def too_large() -> None:
        raise OutOfPaper

    failed, next_one = lane.submit(job(), too_large), lane.submit(job(), lambda: "done")
    with pytest.raises(OutOfMemory, match="fewer or smaller"):
        failed.result(WAIT_S)
    assert next_one.result(WAIT_S) == "done"
    assert freed == ["some", "everything"]


def test_the_tensors_of_the_failed_attempt_are_gone_when_memory_is_freed() -> None:
    class Tensor:
        pass

    alive_at_free: list[bool] = []
    seen: list[weakref.ref[Tensor]] = []

    def too_large() -> None:
        tensor = Tensor()
        seen.append(weakref.ref(tensor))
        raise OutOfPaper

    lane = Lane(classify, lambda *, everything: alive_at_free.append(seen[-1]() is not None))
    with pytest.raises(OutOfMemory):
        lane.submit(job(), too_large).result(WAIT_S)
    lane.close()
    assert alive_at_free == [False, False]


def test_an_error_of_a_job_is_that_jobs_alone(lane: Lane) -> None:
    def wrong() -> None:
        raise InvalidInput("no")

    failed, next_one = lane.submit(job(), wrong), lane.submit(job(), lambda: "done")
    with pytest.raises(InvalidInput):
        failed.result(WAIT_S)
    assert next_one.result(WAIT_S) == "done"


def test_a_ruined_device_answers_its_job_and_starts_no_other(lane: Lane) -> None:
    def ruin() -> None:
        raise Broken

    held = Held(job("first"))
    lane.submit(held.job, held)
    failed, waiting = lane.submit(job("second"), ruin), lane.submit(job("third"), lambda: "done")
    held.let_go.set()
    with pytest.raises(DeviceLost):
        failed.result(WAIT_S)
    assert lane.broken
    assert lane.waiting() == 1
    assert not waiting.done()


def test_a_device_that_cannot_even_free_memory_is_lost() -> None:
    def free(*, everything: bool) -> None:
        raise Broken

    def too_large() -> None:
        raise OutOfPaper

    lane = Lane(classify, free)
    with pytest.raises(DeviceLost):
        lane.submit(job(), too_large).result(WAIT_S)
    assert lane.broken


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


def test_a_ruined_device_starts_nothing_in_any_place_also_when_widened() -> None:
    def ruin() -> None:
        raise Broken

    lane = Lane(classify, lambda *, everything: None, slots=2)
    beside = Held(job("beside"))
    running = lane.submit(beside.job, beside)
    assert beside.running.wait(WAIT_S)
    with pytest.raises(DeviceLost):
        lane.submit(job("ruin"), ruin).result(WAIT_S)
    waiting = [lane.submit(job(f"waiting-{n}"), lambda: None) for n in range(3)]
    lane.widen(4)
    beside.let_go.set()
    assert running.result(WAIT_S) == "beside"
    assert lane.waiting() == 3
    assert not any(future.done() for future in waiting)
    lane.close()
