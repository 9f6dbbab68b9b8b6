"""Progress posts of one job: one in flight, the latest wins, and none after the result."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from shared.job import Event, Progress

EVERY_S = 0.25
Post = Callable[[dict[str, Any]], Awaitable[None]]


class ProgressSender:
    """Sends what a job reports; made on the event loop, fed from any thread.

    The SDK's own `progress_update` starts a thread, a loop and a session for each call, and its posts arrive out of
    order, at times after the result, which leaves the job IN_PROGRESS for ever.
    """

    def __init__(self, post: Post, *, every_s: float = EVERY_S) -> None:
        self._post = post
        self._every_s = every_s
        self._loop = asyncio.get_running_loop()
        self._latest: Progress | None = None
        self._preview: str | None = None
        self._sending: asyncio.Task[None] | None = None
        self._closed = False

    def push(self, event: Event) -> None:
        """Take a report; returns at once."""
        if isinstance(event, Progress):
            with contextlib.suppress(RuntimeError):  # the loop is gone: the process is ending
                self._loop.call_soon_threadsafe(self._offer, event)

    def stop(self) -> None:
        """Send nothing more: the platform has ended the job."""
        self._closed = True

    async def close(self) -> None:
        """Wait for the post in flight; what has not left by now, the result makes obsolete."""
        self._closed = True
        if self._sending:
            await asyncio.wait({self._sending})

    def _offer(self, progress: Progress) -> None:
        # a poll sees the last post only: the picture stays in it until there is a newer one
        self._preview = progress.preview or self._preview
        self._latest = replace(progress, preview=self._preview)
        if self._sending is None and not self._closed:
            self._sending = self._loop.create_task(self._send())

    async def _send(self) -> None:
        while self._latest and not self._closed:
            progress, self._latest = self._latest, None
            await self._post(progress.as_dict())
            await self._pause()
        self._sending = None

    async def _pause(self) -> None:
        until = self._loop.time() + self._every_s
        while not self._closed and (left := until - self._loop.time()) > 0:
            await asyncio.sleep(min(left, 0.02))
