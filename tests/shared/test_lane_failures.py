"""What a failing device, and a failing job, do to the jobs behind them."""

import weakref

import pytest

from shared.errors import DeviceLost, InvalidInput, OutOfMemory
from shared.lane import Lane
from tests.shared.lanes import WAIT_S, Broken, Held, OutOfPaper, classify, job


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
