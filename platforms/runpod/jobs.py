"""The SDK's jobs as the runner's, their ends as the SDK's, and the handler that answers them whole."""

import asyncio
import os
import secrets
from collections.abc import Callable
from typing import Any

from platforms.runpod.progress import ProgressSender
from platforms.runpod.running import Running
from shared import logs
from shared.errors import ENDINGS, DeviceLost, Ending, Internal, InvalidInput
from shared.job import Event, Job, Piece
from shared.jobs.outputs import error_text, wants_events
from shared.runner import Runner

RUN_LIMIT = 10_000_000 * 98 // 100  # bytes of a posted result; the platform drops what is larger
SYNC_LIMIT = 20_000_000 * 98 // 100
ANSWER_WITHIN_S = 3.0


class Worker:
    """Runs the SDK's jobs on a runner."""

    def __init__(self, runner: Runner, *, on_runpod: bool) -> None:
        self.runner = runner
        self._on_runpod = on_runpod
        self._session: Any = None
        self._running: set[Running] = set()

    def use(self, session: Any) -> None:
        """Post through the SDK's session, which it closes when the worker ends."""
        self._session = session

    async def handle(self, sdk_job: dict[str, Any]) -> dict[str, Any]:
        """Run one job, and answer in the SDK's shape; the SDK would send an exception's traceback to the caller.

        Raises:
            asyncio.CancelledError: the platform stopped the job, and it has left the device.
        """
        if wants_events(sdk_job.get("input")):
            return _failure(sdk_job, InvalidInput("this worker serves other pipelines too; ask without stream"))
        try:
            outcome = await self.outcome(self.start(sdk_job), sdk_job)
        except Exception:  # noqa: BLE001 logged there, hidden from the caller
            return hidden(sdk_job)
        answer: dict[str, Any] = outcome.get("answer", outcome)
        return answer

    def start(self, sdk_job: dict[str, Any], on_piece: Callable[[Piece], None] = lambda piece: None) -> Running:
        """Hand a job to the runner; its work is in other threads, so that the loop goes on serving stop signals."""
        job_id = sdk_job["id"]
        sender = ProgressSender(lambda progress: self._post_progress(job_id, progress))

        def hear(event: Event) -> None:
            if isinstance(event, Piece):
                on_piece(event)
            else:
                sender.push(event)

        running = Running(self.runner, self._job(sdk_job, hear), sender, lambda body: self._post(job_id, body))
        self._running.add(running)
        running.future.add_done_callback(lambda _: self._ended(running))
        return running

    async def stop(self, job_id: str) -> None:
        """Stop a job, wherever the SDK heard of it; returns when it has left the device."""
        for running in [running for running in self._running if running.job.id == job_id]:
            await running.stop()

    async def outcome(self, running: Running, sdk_job: dict[str, Any]) -> dict[str, Any]:
        """The job's result, or `{"error": ...}`.

        Raises:
            asyncio.CancelledError: as `handle`.
        """
        try:
            return await running.result()
        except ENDINGS as ending:
            return _failure(sdk_job, ending)
        finally:
            await running.stop()

    def _ended(self, running: Running) -> None:
        self._running.discard(running)
        if self.runner.lane.broken:
            self._end_soon(running.job.id)

    def _end_soon(self, job_id: str) -> None:
        """End the process once this job, and those that are being delivered, have had time to be answered.

        The jobs that wait for the device stay without an answer, and are handed out again.
        """
        logs.logger.error("the device is lost: this worker ends", extra={"fields": {"job": job_id}})
        asyncio.get_running_loop().call_later(ANSWER_WITHIN_S, os._exit, 1)

    def _job(self, sdk_job: dict[str, Any], events: Callable[[Event], None]) -> Job:
        timeout_ms = (sdk_job.get("policy") or {}).get("executionTimeout")
        limit = SYNC_LIMIT if sdk_job["id"].startswith("sync-") else RUN_LIMIT
        return Job(
            id=sdk_job["id"],
            input=sdk_job.get("input") or {},
            events=events,
            timeout_s=timeout_ms / 1000 if timeout_ms else None,
            s3_config=sdk_job.get("s3Config"),
            result_limit=limit if self._on_runpod else None,
            can_recur=True,
        )

    async def _post_progress(self, job_id: str, progress: dict[str, Any]) -> None:
        await self._post(job_id, {"status": "IN_PROGRESS", "output": progress})

    async def _post(self, job_id: str, body: dict[str, Any]) -> None:
        """Post to job-done beside the SDK; a post that fails is only a progress that nobody saw."""
        if not self._on_runpod:
            return
        import aiohttp
        from runpod.http_client import AsyncClientSession
        from runpod.serverless.modules import rp_http

        if self._session is None:
            self._session = AsyncClientSession()
        url = rp_http.JOB_DONE_URL.replace("$ID", job_id) + "&isStream=false"
        try:
            async with self._session.post(url, json=body, timeout=aiohttp.ClientTimeout(total=10)) as response:
                await response.read()
        except (aiohttp.ClientError, TimeoutError) as exc:
            logs.logger.warning("a progress post failed", extra={"fields": {"job": job_id, "error": repr(exc)}})


def hidden(sdk_job: dict[str, Any]) -> dict[str, Any]:
    """An error of ours as the SDK takes it: logged, under an id that the caller is told; to be called where it is."""
    error_id = secrets.token_hex(4)
    logs.logger.exception("internal error", extra={"fields": {"job": sdk_job["id"], "error_id": error_id}})
    return _failure(sdk_job, Internal(f"an error of this worker; its log has it under {error_id}"))


def _failure(sdk_job: dict[str, Any], ending: Ending) -> dict[str, Any]:
    """An ending as the SDK takes it: it makes a string of whatever stands under `error`."""
    ruined = {"refresh_worker": True} if isinstance(ending, DeviceLost) else {}
    return {"error": error_text(sdk_job.get("input"), ending), **ruined}
