"""One job between the SDK and the runner: watched while it runs, and off the device before it counts as stopped."""

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from typing import Any

from platforms.runpod.progress import ProgressSender
from shared import logs
from shared.job import Job
from shared.runner import Runner

WATCH_EVERY_S = 1.0


class Running:
    """A job that was handed to the runner; made on the event loop.

    `report` posts an answer beside the SDK, for a job that keeps the device and so ends the process.
    """

    def __init__(
        self,
        runner: Runner,
        job: Job,
        sender: ProgressSender,
        report: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        self.job = job
        self.sender = sender
        self._lane = runner.lane
        self._hang_s = runner.settings.hang_s
        self._report = report
        self.future = asyncio.wrap_future(runner.submit(job))
        self.future.add_done_callback(lambda done: done.exception())  # also where nobody else asks for it
        self._watching = asyncio.create_task(self._watch())

    async def result(self) -> dict[str, Any]:
        """The job's result, or its Ending; no progress is posted after it."""
        await asyncio.wait({self.future})
        await self.sender.close()
        return self.future.result()

    async def stop(self) -> None:
        """Stop the job unless it has ended, and wait until it has left the device. Stops may come again and again.

        A stopped job that neither waits for the device nor is on it is over for the platform: what it fetches or
        delivers in its thread ends by itself.
        """
        if self.future.done():
            return
        self.sender.stop()
        self.job.cancel.cancel("the endpoint stopped the job")
        while not self.future.done() and self._lane.holds(self.job):
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait({self.future}, timeout=WATCH_EVERY_S)
        await self.sender.close()

    async def _watch(self) -> None:
        while not self.future.done():
            await asyncio.wait({self.future}, timeout=WATCH_EVERY_S)
            if self._lane.is_stuck(self.job, self._hang_s):
                await self._abandon()

    async def _abandon(self) -> None:
        """The device does not come back: report the job and end the process, which alone can free it."""
        logs.logger.error("the job does not stop: this worker ends", extra={"fields": {"job": self.job.id}})
        if not self.job.cancel.is_cancelled():
            await self._report({"error": "deadline_exceeded: the job did not stop at its deadline", "stopPod": True})
        os._exit(1)
