"""Where a job's time and memory went, as its result tells it."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from shared.job import Clock


class JobMetrics:
    """Seconds by stage, the longest stretch that nothing could stop, and what handlers noted."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self.clock = clock
        self._seconds: dict[str, float] = {}
        self._facts: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._last_check: float | None = None
        self._longest_piece = 0.0

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Add the block's time to `<stage>_s`."""
        begun = self.clock()
        try:
            yield
        finally:
            self.add(stage, self.clock() - begun)

    def add(self, stage: str, seconds: float) -> None:
        """Add seconds to a stage."""
        with self._lock:  # several encoders add at once
            self._seconds[stage] = self._seconds.get(stage, 0.0) + seconds

    def checked(self) -> None:
        """A point at which the job could be stopped was passed."""
        now = self.clock()
        if self._last_check is not None:
            self._longest_piece = max(self._longest_piece, now - self._last_check)
        self._last_check = now

    def note(self, **facts: Any) -> None:
        """Keep facts for the result."""
        self._facts.update(facts)

    def noted(self, fact: str) -> Any:
        """What is known of it; None where nothing is."""
        return self._facts.get(fact)

    def stages(self) -> list[tuple[str, float]]:
        """Every stage with its seconds."""
        with self._lock:
            return list(self._seconds.items())

    def seconds(self) -> dict[str, float]:
        """`<stage>_s` of every stage, to the tenth of a millisecond."""
        with self._lock:
            return {f"{stage}_s": round(s, 4) for stage, s in self._seconds.items()}

    def as_dict(self) -> dict[str, Any]:
        """The `metrics` of a result; seconds to the tenth of a millisecond."""
        return {**self.seconds(), "longest_piece_s": round(self._longest_piece, 4), **self._facts}


Observe = Callable[[str, str, JobMetrics], None]
"""Is told of a job's end: the pipeline that it named, `completed` or the error's code, and where its time went.

Called on the job's own thread before its result is known, so it returns at once and raises nothing.
"""


def unobserved(pipeline: str, outcome: str, metrics: JobMetrics) -> None:
    """Nobody listens."""
