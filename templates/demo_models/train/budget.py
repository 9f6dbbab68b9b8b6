"""How long a stage of training lasts."""

import time
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Budget:
    """Yields (step, share done) for so many minutes or, where a run must be repeatable, so many steps."""

    minutes: float
    steps: int | None = None

    def __iter__(self) -> Iterator[tuple[int, float]]:
        start, step = time.monotonic(), 0
        while (done := self._share(step, time.monotonic() - start)) < 1:
            yield step, done
            step += 1

    def _share(self, step: int, elapsed_s: float) -> float:
        return step / self.steps if self.steps else elapsed_s / (60 * self.minutes)
