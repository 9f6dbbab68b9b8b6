"""The RunPod SDK, started fast, and the seams of its loop that its public API does not open."""

import asyncio
import ctypes
import os
import random
import signal
import sys
import types
from collections.abc import Awaitable, Callable
from typing import Any

from shared import logs
from shared.backlog import Backlog

TAKEN_AT_ONCE = 256  # a constant: the SDK stops fetching while it changes its concurrency
GATE_POLL_S = 0.01
GATE_MAX_S = 20  # the SDK cancels a fetch after 90 s, and with it a poll that may be bringing a job
BACK_OFF_S = (0.5, 5.0)
PR_SET_PDEATHSIG = 1
TOO_MANY_REQUESTS = 429

TakenJobs = list[dict[str, Any]] | None


def import_runpod() -> Any:
    """Import the SDK without what a worker has no use for.

    It spends 1.1 s asking for the CPU's name for its debugger, and 0.1 s on the SSH client of its command line.
    """
    cpuinfo, paramiko = types.ModuleType("cpuinfo"), types.ModuleType("paramiko")
    cpuinfo.get_cpu_info = dict  # type: ignore[attr-defined]
    stubs = {stub.__name__: stub for stub in (cpuinfo, paramiko) if stub.__name__ not in sys.modules}
    sys.modules.update(stubs)
    try:
        import runpod
    finally:
        for name in stubs:
            del sys.modules[name]  # for whoever needs the real one
    return runpod


def die_with_parent() -> None:
    """Let forked children end with this process: a killed worker's ping process would go on naming its jobs."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        os.register_at_fork(after_in_child=lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL))
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)


async def _nothing(job_id: str) -> None:
    pass


class Loop:
    """Takes jobs by the device's backlog, drops its polls on SIGTERM, and loses no stop.

    `on_stop` is awaited for each job that the SDK stops, and returns when the job has left the device.
    The SDK looks its functions up in `rp_scale` when the loop starts (runpod 1.12); `install` replaces them there.
    """

    def __init__(
        self,
        backlog: Backlog,
        kind_of: Callable[[Any], str],
        *,
        take_ahead_s: float,
        drain_s: float,
        is_broken: Callable[[], bool] = lambda: False,
        on_session: Callable[[Any], None] = lambda session: None,
        on_stop: Callable[[str], Awaitable[None]] = _nothing,
    ) -> None:
        self._backlog = backlog
        self._kind_of = kind_of
        self._ahead_s = take_ahead_s
        self._drain_s = drain_s
        self._is_broken = is_broken
        self._on_session = on_session
        self._on_stop = on_stop
        self._closing: asyncio.Event | None = None
        self._failures = 0
        self._not_begun: set[str] = set()
        self._stopped: set[str] = set()

    def install(self) -> bool:
        """Replace the SDK's take, stop and run; False, with nothing changed, when this SDK has no such seams."""
        from runpod.serverless.modules import rp_scale

        names = ("get_job", "get_stop_signals", "handle_job")
        if not all(callable(getattr(rp_scale, name, None)) for name in names):
            return False
        self._get_job, self._get_stops, self._handle = (getattr(rp_scale, name) for name in names)
        rp_scale.get_job, rp_scale.get_stop_signals, rp_scale.handle_job = self.take, self.stops, self.run
        scaler = rp_scale.JobScaler({})
        if scaler.jobs_fetcher == self.take and scaler.jobs_handler == self.run:
            return True
        rp_scale.get_job, rp_scale.get_stop_signals, rp_scale.handle_job = (
            self._get_job,
            self._get_stops,
            self._handle,
        )
        return False

    async def take(self, session: Any, wanted: int) -> TakenJobs:
        """The next jobs, asked for only when the device is nearly free, and no more than it needs."""
        self._on_session(session)
        if not await self._nearly_free():
            return None
        try:
            room = self._backlog.room(2 * self._ahead_s)
            taken: TakenJobs = await self._unless_closing(self._get_job(session, min(wanted, room)))
            self._failures = 0
        except _failures() as exc:
            if getattr(exc, "status", None) == TOO_MANY_REQUESTS:
                raise  # the SDK waits 5 s by itself
            await self._back_off(exc)
            return None
        for job in taken or []:
            self._not_begun.add(str(job.get("id")))
            self._backlog.accepted(str(job.get("id")), self._kind_of(job.get("input")))
        return taken

    async def stops(self, session: Any) -> list[str]:
        """The jobs that the SDK is to stop. Those that it has not begun are kept back, for `run` to stop.

        It would forget the stop of a job in its own queue; and a task that it cancels before its first turn never
        runs at all, so that nothing would take the job off its books.
        """
        stopped: list[str] = await self._unless_closing(self._get_stops(session)) or []
        self._stopped.update(self._not_begun.intersection(stopped))
        return [job_id for job_id in stopped if job_id not in self._not_begun]

    async def run(self, session: Any, config: dict[str, Any], job: dict[str, Any]) -> None:
        """Run one job as the SDK does, unless it was stopped before.

        A generator does not hear that its job was stopped while the SDK posted what it had yielded.
        """
        job_id = str(job.get("id"))
        self._not_begun.discard(job_id)
        try:
            if job_id in self._stopped:
                raise asyncio.CancelledError
            await self._handle(session, config, job)
        except asyncio.CancelledError:
            await self._on_stop(job_id)
            raise
        finally:
            self._stopped.discard(job_id)
            self._backlog.ended(job_id)

    async def _nearly_free(self) -> bool:
        waited_s = 0.0
        while self._is_broken() or self._is_busy():
            if waited_s > GATE_MAX_S or self._is_closing():
                return False
            await asyncio.sleep(GATE_POLL_S)
            waited_s += GATE_POLL_S
        return True

    def _is_busy(self) -> bool:
        return len(self._backlog) >= self._backlog.slots and self._backlog.remaining_s() >= self._ahead_s

    async def _unless_closing(self, poll: Awaitable[Any]) -> Any:
        """The poll's answer, or None as soon as SIGTERM came: the SDK would wait for it, and lose what it brings."""
        closing = self._arm()
        asked, closed = asyncio.ensure_future(poll), asyncio.ensure_future(closing.wait())
        try:
            await asyncio.wait({asked, closed}, return_when=asyncio.FIRST_COMPLETED)
            return asked.result() if asked.done() else None
        finally:
            asked.cancel()
            closed.cancel()

    def _arm(self) -> asyncio.Event:
        """Listen for SIGTERM beside the SDK's own handler; it runs in the main thread's loop."""
        if self._closing is None:
            self._closing = asyncio.Event()
            sdk_handler = signal.getsignal(signal.SIGTERM)
            loop = asyncio.get_running_loop()
            loop.add_signal_handler(signal.SIGTERM, self._close, loop, sdk_handler)
        return self._closing

    def _close(self, loop: asyncio.AbstractEventLoop, sdk_handler: Any) -> None:
        logs.logger.info("SIGTERM: finishing what was taken", extra={"fields": {"jobs": len(self._backlog)}})
        sdk_handler(signal.SIGTERM, None)
        assert self._closing is not None  # noqa: S101 armed before the handler was set
        self._closing.set()
        loop.call_later(self._drain_s, self._give_up)

    def _give_up(self) -> None:
        logs.logger.error("not done within DRAIN_S; the platform will hand these jobs out again")
        os._exit(1)

    def _is_closing(self) -> bool:
        return self._closing is not None and self._closing.is_set()

    async def _back_off(self, exc: BaseException) -> None:
        self._failures += 1
        shortest, longest = BACK_OFF_S
        delay = min(longest, shortest * 2 ** (self._failures - 1)) * random.uniform(0.8, 1.0)  # noqa: S311 no secret
        logs.logger.warning("no answer to job-take", extra={"fields": {"error": type(exc).__name__, "wait_s": delay}})
        await self._unless_closing(asyncio.sleep(delay))


def _failures() -> tuple[type[BaseException], ...]:
    """What a poll may end with; the SDK asks again at once, some 3,000 times a second."""
    import aiohttp

    return (aiohttp.ClientError, ConnectionError)
