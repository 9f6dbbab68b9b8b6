"""How much work a worker has before it, in seconds: what decides when the next job is asked for."""

import heapq
import math
import threading
from dataclasses import dataclass

from shared.job import Clock

NEWEST = 0.2  # weight of the newest run in a running mean
MOST_AWAY = 4  # jobs that wait for something other than the device, while the device has room for more


@dataclass
class _Ticket:
    kind: str
    started_at: float | None = None
    free_at: float | None = None
    away: bool = False


class Backlog:
    """The jobs that were accepted and have not left the device, with estimates by kind of work.

    `slots` is how many jobs the device runs at once.
    """

    def __init__(self, clock: Clock, *, slots: int = 1) -> None:
        self.slots = slots
        self._clock = clock
        self._lock = threading.Lock()
        self._tickets: dict[str, _Ticket] = {}
        self._means: dict[str, float] = {}
        self._mean: float | None = None

    def __len__(self) -> int:
        return len(self._tickets)

    def counts(self) -> tuple[int, int]:
        """How many jobs are on the device, and how many wait for it or for what they need before."""
        with self._lock:
            running = sum(ticket.started_at is not None for ticket in self._tickets.values())
            return running, len(self._tickets) - running

    def accepted(self, job_id: str, kind: str) -> None:
        """A job was taken; it will want the device."""
        with self._lock:
            self._tickets.setdefault(job_id, _Ticket(kind))

    def away(self, job_id: str, *, away: bool) -> None:
        """The job waits for a network before it can want the device, or does so no longer."""
        with self._lock:
            if ticket := self._tickets.get(job_id):
                ticket.away = away

    def started(self, job_id: str) -> None:
        """The device is the job's."""
        with self._lock:
            if ticket := self._tickets.get(job_id):
                ticket.started_at = self._clock()

    def stepped(self, job_id: str, left_s: float) -> None:
        """A running job expects to hold the device for `left_s` more."""
        with self._lock:
            if ticket := self._tickets.get(job_id):
                ticket.free_at = self._clock() + left_s

    def ended(self, job_id: str, run_s: float | None = None) -> None:
        """The job has left the device; `run_s` when its length is typical of its kind."""
        with self._lock:
            ticket = self._tickets.pop(job_id, None)
            if ticket and run_s is not None:
                self._means[ticket.kind] = _blend(self._means.get(ticket.kind), run_s)
                self._mean = _blend(self._mean, run_s)

    def remaining_s(self) -> float:
        """Seconds until the device has a free slot; infinite when a job's length is not known."""
        with self._lock:
            if sum(t.away for t in self._tickets.values()) >= MOST_AWAY * self.slots:
                return math.inf
            here = sorted((t for t in self._tickets.values() if not t.away), key=lambda t: t.started_at is None)
            free_in_s = [0.0] * self.slots
            for ticket in here:  # each to the slot that is free first
                heapq.heapreplace(free_in_s, free_in_s[0] + self._left(ticket))
            return free_in_s[0]

    def room(self, limit_s: float) -> int:
        """How many more jobs fit below `limit_s` of work: one for each free slot while nothing is known."""
        free = max(1, self.slots - len(self))
        if self._mean is None:
            return free
        fitting = int((limit_s - self.remaining_s()) / max(self._mean, 1e-3) * self.slots + 1e-6)
        return max(free, fitting)

    def _left(self, ticket: _Ticket) -> float:
        if ticket.free_at is not None:
            return max(0.0, ticket.free_at - self._clock())
        mean = self._means.get(ticket.kind, math.inf)
        return mean if ticket.started_at is None else max(0.0, mean - (self._clock() - ticket.started_at))


def _blend(mean: float | None, newest: float) -> float:
    return newest if mean is None else (1 - NEWEST) * mean + NEWEST * newest
