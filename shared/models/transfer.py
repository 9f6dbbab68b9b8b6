"""How far a download has come: bytes, their rate, and the seconds that are left."""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

WINDOW_S = 10.0  # the rate is that of the last seconds


@dataclass(frozen=True)
class Transfer:
    """A moment of a download; without a rate where none is known yet."""

    done: int
    total: int
    rate: float | None = None  # bytes a second

    @property
    def eta_s(self) -> float | None:
        """Seconds that are left at this rate."""
        return max(0, self.total - self.done) / self.rate if self.rate else None


class Meter:
    """Counts what has arrived; safe to use from any thread."""

    def __init__(self, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._total = total
        self._done = 0
        self._clock = clock
        self._lock = threading.Lock()
        self._marks = deque([(clock(), 0)])

    def add(self, number: int) -> None:
        """So many more bytes; a negative number takes back what has to be fetched again."""
        with self._lock:
            self._done += number
            now = self._clock()
            self._marks.append((now, self._done))
            while len(self._marks) > 2 and now - self._marks[0][0] > WINDOW_S:
                self._marks.popleft()

    def at(self, done: int, total: int) -> None:
        """So far another process has come, of so many bytes."""
        self._total = total
        self.add(done - self._done)

    def skip(self, number: int) -> None:
        """So many bytes need not be fetched: they are done, but say nothing about the rate."""
        with self._lock:
            self._done += number
            self._marks = deque((at, done + number) for at, done in self._marks)

    def read(self) -> Transfer:
        """Where it stands."""
        with self._lock:
            (since, before), done = self._marks[0], self._done
            seconds = self._clock() - since
        rate = (done - before) / seconds if seconds > 0 and done > before else None
        return Transfer(done, self._total, rate)
