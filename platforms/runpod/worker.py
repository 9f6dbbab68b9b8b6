"""The RunPod worker: jobs from the SDK's loop to the runner, results and progress back.

Start it with `python -m platforms.runpod.worker`; the SDK's own modes work too: `--test_input '{...}'`, a
test_input.json in the current folder, and `--rp_serve_api`.
"""

import asyncio
import os
import secrets
import signal
import sys
from typing import Any

import handlers
from platforms.runpod import sdk
from platforms.runpod.progress import ProgressSender
from shared import device as devices
from shared import logs
from shared.errors import ENDINGS, DeviceLost, Internal
from shared.job import Job
from shared.runner import Runner
from shared.settings import Settings

RUN_LIMIT = 10_000_000 * 98 // 100  # bytes of a posted result; the platform drops what is larger
SYNC_LIMIT = 20_000_000 * 98 // 100
WATCH_EVERY_S = 1.0
ANSWER_WITHIN_S = 3.0


class Worker:
    """The SDK's handler over a runner."""

    def __init__(self, runner: Runner, *, on_runpod: bool) -> None:
        self.runner = runner
        self._on_runpod = on_runpod
        self._session: Any = None

    def use(self, session: Any) -> None:
        """Post through the SDK's session, which it closes when the worker ends."""
        self._session = session

    async def handle(self, sdk_job: dict[str, Any]) -> dict[str, Any]:
        """Run one job, and answer in the SDK's shape; the SDK would send an exception's traceback to the caller.

        Raises:
            asyncio.CancelledError: the platform stopped the job, and it has left the device.
        """
        try:
            return await self._run(sdk_job)
        except Exception:  # noqa: BLE001 logged here, hidden from the caller
            error_id = secrets.token_hex(4)
            logs.logger.exception("internal error", extra={"fields": {"job": sdk_job["id"], "error_id": error_id}})
            return {"error": str(Internal(f"an error of this worker; its log has it under {error_id}"))}
        finally:
            if self.runner.lane.broken:
                self._end_soon(sdk_job["id"])

    async def _run(self, sdk_job: dict[str, Any]) -> dict[str, Any]:
        """Work is in the lane's thread, so that the loop goes on serving stop signals."""
        sender = ProgressSender(lambda progress: self._post_progress(sdk_job["id"], progress))
        job = self._job(sdk_job, sender)
        future = asyncio.wrap_future(self.runner.submit(job))
        stopped = await self._until_off_device(job, future, sender)
        await sender.close()
        if stopped:
            future.add_done_callback(lambda done: done.exception())  # nobody else asks for it
            raise asyncio.CancelledError
        return self._answer(job, future)

    def _end_soon(self, job_id: str) -> None:
        """End the process once this job, and those that are being delivered, have had time to be answered.

        The jobs that wait for the device stay without an answer, and are handed out again.
        """
        logs.logger.error("the device is lost: this worker ends", extra={"fields": {"job": job_id}})
        asyncio.get_running_loop().call_later(ANSWER_WITHIN_S, os._exit, 1)

    def _job(self, sdk_job: dict[str, Any], sender: ProgressSender) -> Job:
        timeout_ms = (sdk_job.get("policy") or {}).get("executionTimeout")
        limit = SYNC_LIMIT if sdk_job["id"].startswith("sync-") else RUN_LIMIT
        return Job(
            id=sdk_job["id"],
            input=sdk_job.get("input") or {},
            events=sender.push,
            timeout_s=timeout_ms / 1000 if timeout_ms else None,
            s3_config=sdk_job.get("s3Config"),
            result_limit=limit if self._on_runpod else None,
        )

    async def _until_off_device(self, job: Job, future: "asyncio.Future[Any]", sender: ProgressSender) -> bool:
        """Wait for the job to end; True when the platform stopped it. Stops may come again and again.

        A stopped job that neither waits for the device nor is on it is over for the platform: what it fetches or
        delivers in its thread ends by itself.
        """
        stopped = False
        while not future.done() and not (stopped and not self.runner.lane.holds(job)):
            try:
                await asyncio.wait({future}, timeout=WATCH_EVERY_S)
            except asyncio.CancelledError:
                stopped = True
                sender.stop()
                job.cancel.cancel("the endpoint stopped the job")
            if self._hangs(job):
                await self._abandon(job, stopped)
        return stopped

    def _hangs(self, job: Job) -> bool:
        """Whether the job keeps the device although it was told to stop."""
        if job.on_device_since is None or job.deadline is None or not self.runner.lane.holds(job):
            return False
        cancelled_at = job.cancel.cancelled_at
        asked_at = job.deadline if cancelled_at is None else max(cancelled_at, job.on_device_since)
        return job.clock() - asked_at > self.runner.settings.hang_s

    async def _abandon(self, job: Job, stopped: bool) -> None:
        """The device does not come back: report the job and end the process, which alone can free it."""
        logs.logger.error("the job does not stop: this worker ends", extra={"fields": {"job": job.id}})
        if not stopped:
            await self._post(
                job.id, {"error": "deadline_exceeded: the job did not stop at its deadline", "stopPod": True}
            )
        os._exit(1)

    def _answer(self, job: Job, future: "asyncio.Future[Any]") -> dict[str, Any]:
        try:
            result: dict[str, Any] = future.result()
        except DeviceLost as lost:
            return {"error": str(lost), "refresh_worker": True}
        except ENDINGS as ending:
            return {"error": str(ending)}
        return result

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


def register_checks(runpod: Any, runner: Runner) -> None:
    """Ours beside the SDK's fitness checks: a worker that fails one is replaced before it takes a job."""

    def device_works() -> None:
        if runner.planner.catalog.entries:
            devices.works(runner.device())

    def volume_is_writable() -> None:
        if any(runner.store.find(entry) is None for entry in runner.planner.catalog.entries):
            runner.store.write_root()

    def warm_models_can_be_had() -> None:
        for entry in runner.planner.catalog.entries:
            if entry.warm:
                runner.store.check(entry)

    def models_run() -> None:
        runner.warm()

    for check in (volume_is_writable, warm_models_can_be_had, device_works, models_run):  # the cheapest first
        runpod.serverless.register_fitness_check(check)


def _runner() -> Runner:
    """The runner, or the end of this process: a worker that could not run a job must not take one."""
    try:
        settings = Settings.from_env()
        return Runner(settings, handlers.Folders(settings.handlers))
    except ENDINGS as wrong:
        logs.logger.error(str(wrong))
        sys.exit(1)


def main() -> None:
    """Start the worker under the SDK's loop."""
    logs.set_up("INFO")
    runner = _runner()
    settings = runner.settings
    logs.set_up(settings.log_level)
    on_runpod = settings.runpod_webhook_get_job is not None  # the SDK's own test for its production mode
    runpod = sdk.import_runpod()
    worker = Worker(runner, on_runpod=on_runpod)
    config: dict[str, Any] = {"handler": worker.handle}
    if on_runpod:
        # before the loop runs there is nothing to finish; process 1 of a container ignores what it does not handle
        signal.signal(signal.SIGTERM, lambda *_: os._exit(128 + signal.SIGTERM))
        sdk.die_with_parent()
        register_checks(runpod, runner)
        loop = sdk.Loop(
            runner.backlog,
            runner.planner.kind_of,
            take_ahead_s=settings.take_ahead_s,
            drain_s=settings.drain_s,
            is_broken=lambda: runner.lane.broken,
            on_session=worker.use,
        )
        if loop.install():
            config["concurrency_modifier"] = lambda _: sdk.TAKEN_AT_ONCE
        else:
            logs.logger.warning("this SDK's loop has other seams: one job at a time, none taken ahead")
    runpod.serverless.start(config)


if __name__ == "__main__":
    main()
