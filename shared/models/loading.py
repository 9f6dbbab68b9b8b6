"""What is being loaded, and since when: nothing can interrupt it, and a driver or a disk may never answer."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from shared.job import Clock


class Loading:
    """The loads of one process; safe to use from any thread."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._since: dict[object, tuple[float, str]] = {}

    @contextmanager
    def of(self, what: str) -> Iterator[None]:
        """The block in which something is loaded; `what` names it for people."""
        load = object()
        self._since[load] = (self._clock(), what)
        try:
            yield
        finally:
            del self._since[load]

    def overdue(self, limit_s: float) -> str | None:
        """What has been loading for longer than that."""
        now = self._clock()
        return next((what for since, what in list(self._since.values()) if now - since > limit_s), None)
