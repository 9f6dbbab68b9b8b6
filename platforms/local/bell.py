"""Wakes the polls that wait for a topic."""

import asyncio
import contextlib


class Bell:
    """One event per topic; whoever waits looks again for itself, since a ring says only that something changed."""

    def __init__(self) -> None:
        self._events: dict[str, asyncio.Event] = {}
        self.closed = False

    def ring(self, topic: str) -> None:
        """Wake those who wait for the topic."""
        if event := self._events.pop(topic, None):
            event.set()

    def close(self) -> None:
        """Wake everybody, and let nobody wait again: the server stops."""
        self.closed = True
        for topic in list(self._events):
            self.ring(topic)

    async def wait(self, topic: str, timeout_s: float) -> None:
        """Return after the next ring, or after `timeout_s`."""
        if self.closed or timeout_s <= 0:
            return
        event = self._events.setdefault(topic, asyncio.Event())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(event.wait(), timeout_s)
