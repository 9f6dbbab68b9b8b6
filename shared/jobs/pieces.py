"""Text on its way from the device's thread to the event loop."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable

from shared.job import Piece


def _as_it_is(piece: Piece) -> str:
    return str(piece.value)


class Pieces:
    """Gathers what one job writes: the device's thread appends, and never waits.

    The loop is woken once for all that gathers until it looks. `write` makes a piece the text that leaves; it runs on
    the device's thread.
    """

    def __init__(self, write: Callable[[Piece], str] = _as_it_is) -> None:
        self._write = write
        self._loop = asyncio.get_running_loop()
        self._gathered: deque[str] = deque()
        self._arrived = asyncio.Event()
        self._is_woken = False
        self._is_over = False

    def push(self, piece: Piece) -> None:
        """Take a piece, from any thread; returns at once."""
        self.push_text(self._write(piece))

    def push_text(self, text: str) -> None:
        """Take what is written already, as `push`."""
        self._gathered.append(text)
        if not self._is_woken:
            self._is_woken = True
            with contextlib.suppress(RuntimeError):  # the loop is gone: the process is ending
                self._loop.call_soon_threadsafe(self._arrived.set)

    def end(self) -> None:
        """Nothing follows; called on the loop."""
        self._is_over = True
        self._arrived.set()

    async def next(self) -> str:
        """All that has gathered since the last look, once there is any; empty when nothing follows."""
        while True:
            self._arrived.clear()
            self._is_woken = False  # before the look: what comes during it may wake the loop for nothing
            if text := "".join(self._gathered.popleft() for _ in range(len(self._gathered))):
                return text
            if self._is_over:
                return ""
            await self._arrived.wait()
