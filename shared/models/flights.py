"""Downloads of this process, each shared by all the jobs that wait for it."""

import atexit
import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as StillGoing
from dataclasses import dataclass, field
from typing import Any

from shared.models.transfer import Transfer

LOOK_S = 0.1
REPORT_S = 0.5  # progress is told at most this often
END_S = 5.0  # a process that ends gives its downloads this long to give back what they hold


class Abandoned(Exception):
    """Nobody waits for this any more."""


@dataclass
class Flight:
    """One download, in a thread of its own, and the number of those who wait for it."""

    waiting: int = 0
    moment: Transfer = field(default_factory=lambda: Transfer(0, 0))
    abandoned: threading.Event = field(default_factory=threading.Event)
    result: "Future[Any]" = field(default_factory=Future)
    thread: threading.Thread | None = None

    def check(self) -> None:
        """Raises Abandoned when nobody waits."""
        if self.abandoned.is_set():
            raise Abandoned


class Flights:
    """Joins those who want the same."""

    def __init__(self) -> None:
        self._flights: dict[Hashable, Flight] = {}
        self._lock = threading.Lock()

    def join(
        self,
        key: Hashable,
        work: Callable[[Flight], Any],
        *,
        on_progress: Callable[[Transfer], None],
        check: Callable[[], None],
    ) -> Any:
        """What `work` returns, done once for all who ask while it goes on.

        `check` may raise, and then only this one leaves; the last who leaves ends the work.
        """
        flight = self._board(key, work)
        told: Transfer | None = None
        waited_s = REPORT_S
        try:
            while True:
                check()
                if waited_s >= REPORT_S and flight.moment != told:
                    told, waited_s = flight.moment, 0.0
                    on_progress(told)
                try:
                    result = flight.result.result(timeout=LOOK_S)
                    if flight.moment != told:
                        on_progress(flight.moment)
                    return result
                except StillGoing:
                    if flight.result.done():  # it was the work that timed out
                        raise
                    waited_s += LOOK_S
        finally:
            self._leave(key, flight)

    def close(self) -> None:
        """End all of them, and wait a moment for it."""
        atexit.unregister(self.close)
        with self._lock:
            flights = list(self._flights.values())
        for flight in flights:
            flight.abandoned.set()
        for flight in flights:
            if flight.thread:
                flight.thread.join(END_S)

    def start(self, key: Hashable, work: Callable[[Flight], Any]) -> Flight:
        """Do something that nobody waits for, unless it is being done."""
        flight = self._board(key, work)
        with self._lock:
            flight.waiting -= 1
        return flight

    def _board(self, key: Hashable, work: Callable[[Flight], Any]) -> Flight:
        with self._lock:
            flight = self._flights.get(key)
            if flight is None or flight.abandoned.is_set():
                atexit.unregister(self.close)
                atexit.register(self.close)
                flight = self._flights[key] = Flight()
                flight.thread = threading.Thread(
                    target=self._fly, args=(key, flight, work), name="download", daemon=True
                )
                flight.thread.start()
            flight.waiting += 1
            return flight

    def _leave(self, key: Hashable, flight: Flight) -> None:
        with self._lock:
            flight.waiting -= 1
            if not flight.waiting:
                flight.abandoned.set()

    def _fly(self, key: Hashable, flight: Flight, work: Callable[[Flight], Any]) -> None:
        try:
            result = work(flight)
        except BaseException as exc:  # noqa: BLE001 handed to those who wait
            self._landed(key, flight)
            flight.result.set_exception(exc)
        else:
            self._landed(key, flight)
            flight.result.set_result(result)

    def _landed(self, key: Hashable, flight: Flight) -> None:
        with self._lock:
            if self._flights.get(key) is flight:
                del self._flights[key]
