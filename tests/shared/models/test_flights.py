"""Jobs of one process that wait for the same download."""

import threading
import time
from collections.abc import Callable

import pytest

from shared.errors import Cancelled
from shared.job import CancelToken
from shared.models.flights import Abandoned, Flight, Flights
from shared.models.transfer import Transfer


class Waiting:
    """A job that waits for a flight, in a thread."""

    def __init__(self, flights: Flights, work: Callable[[Flight], object]) -> None:
        self.cancel = CancelToken()
        self.told: list[Transfer] = []
        self.ended: object = None
        self._flights, self._work = flights, work
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.ended = self._flights.join(
                "model", self._work, on_progress=self.told.append, check=self.cancel.check
            )
        except BaseException as exc:  # noqa: BLE001 looked at by the test
            self.ended = exc

    def end(self) -> object:
        self._thread.join()
        return self.ended


class Work:
    """Goes on until it is let go or abandoned."""

    def __init__(self) -> None:
        self.times = 0
        self.let_go = threading.Event()
        self.abandoned = threading.Event()

    def __call__(self, flight: Flight) -> int:
        self.times += 1
        flight.moment = Transfer(1, 2)
        while not self.let_go.wait(0.005):
            try:
                flight.check()
            except Abandoned:
                self.abandoned.set()
                raise
        return self.times


def boarded(flights: Flights, number: int) -> None:
    """Until so many wait."""
    while sum(flight.waiting for flight in flights._flights.values()) < number:
        time.sleep(0.001)


def test_what_many_wait_for_is_done_once() -> None:
    flights, work = Flights(), Work()
    jobs = [Waiting(flights, work) for _ in range(5)]
    boarded(flights, 5)
    work.let_go.set()
    assert [job.end() for job in jobs] == [1] * 5
    assert all(job.told[0] in (Transfer(0, 0), Transfer(1, 2)) for job in jobs)
    assert flights._flights == {}


def test_one_who_is_cancelled_leaves_and_the_others_get_it() -> None:
    flights, work = Flights(), Work()
    jobs = [Waiting(flights, work) for _ in range(2)]
    boarded(flights, 2)
    jobs[0].cancel.cancel("enough")
    assert isinstance(jobs[0].end(), Cancelled)
    work.let_go.set()
    assert jobs[1].end() == 1
    assert not work.abandoned.is_set()


def test_the_last_who_leaves_ends_it_and_the_next_begins_anew() -> None:
    flights, work = Flights(), Work()
    job = Waiting(flights, work)
    boarded(flights, 1)
    job.cancel.cancel("enough")
    assert isinstance(job.end(), Cancelled)
    assert work.abandoned.wait(30)
    again = Waiting(flights, work)
    boarded(flights, 1)
    work.let_go.set()
    assert again.end() == 2


def test_an_error_reaches_all_who_wait() -> None:
    let_go = threading.Event()

    def fails(flight: Flight) -> None:
        let_go.wait(30)
        raise TimeoutError("of the work itself")

    flights = Flights()
    jobs = [Waiting(flights, fails) for _ in range(3)]
    boarded(flights, 3)
    let_go.set()
    assert [str(job.end()) for job in jobs] == ["of the work itself"] * 3


def test_a_process_that_ends_ends_its_flights() -> None:
    flights, work = Flights(), Work()
    job = Waiting(flights, work)
    boarded(flights, 1)
    flights.close()
    assert work.abandoned.is_set()
    assert isinstance(job.end(), Abandoned)


def test_the_last_moment_is_told_however_soon_it_comes() -> None:
    def work(flight: Flight) -> str:
        flight.moment = Transfer(2, 2)
        return "here"

    job = Waiting(Flights(), work)
    assert job.end() == "here"
    assert job.told[-1] == Transfer(2, 2)


@pytest.mark.parametrize("times", [2])
def test_what_nobody_waits_for_is_done_once_too(times: int) -> None:
    flights, work = Flights(), Work()
    for _ in range(times):
        flights.start("model", work)
    work.let_go.set()
    while flights._flights:
        time.sleep(0.001)
    assert work.times == 1
