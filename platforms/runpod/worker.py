"""The RunPod worker: jobs from the SDK's loop to the runner, results and progress back.

Start it with `python -m platforms.runpod.worker`; the SDK's own modes work too: `--test_input '{...}'`, a
test_input.json in the current folder, and `--rp_serve_api`.
"""

import gc
import os
import signal
import sys
import threading
import time
from typing import Any

import handlers
from platforms.runpod import sdk
from platforms.runpod.jobs import Worker
from platforms.runpod.stream import StreamingHandler
from shared import logs
from shared.errors import ENDINGS
from shared.readiness import checks
from shared.runner import Runner
from shared.settings import Settings

LOOK_EVERY_S = 1.0


def register_checks(runpod: Any, runner: Runner) -> None:
    """Ours beside the SDK's fitness checks: a worker that fails one is replaced before it takes a job."""
    for check in checks(runner):
        runpod.serverless.register_fitness_check(check)


def _runner() -> Runner:
    """The runner, or the end of this process: a worker that could not run a job must not take one."""
    try:
        settings = Settings.from_env()
        return Runner(settings, handlers.Folders(settings.handlers))
    except ENDINGS as wrong:
        logs.logger.error(str(wrong))
        sys.exit(1)


def _sdk_handler(worker: Worker, *, on_runpod: bool) -> dict[str, Any]:
    """A generator where all that this worker serves is text; the SDK runs none for `--test_input`."""
    if not worker.runner.planner.streams:
        return {"handler": worker.handle}
    streaming = StreamingHandler(worker)
    if on_runpod or "--rp_serve_api" in sys.argv:
        return {"handler": streaming.handle, "return_aggregate_stream": True}
    return {"handler": streaming.collect}


def _watch_loading(runner: Runner) -> None:
    """End this process where a load does not, before which no job could be run and none be stopped."""
    limit_s = runner.settings.load_timeout_s
    while not (overdue := runner.pool.loading.overdue(limit_s)):
        time.sleep(LOOK_EVERY_S)
    logs.logger.error(
        "loading does not end: this worker does", extra={"fields": {"what": overdue, "limit_s": limit_s}}
    )
    os._exit(1)


def main() -> None:
    """Start the worker under the SDK's loop."""
    logs.set_up("INFO")
    runner = _runner()
    settings = runner.settings
    logs.set_up(settings.log_level)
    on_runpod = settings.runpod_webhook_get_job is not None  # the SDK's own test for its production mode
    if on_runpod:
        gc.disable()  # until the models are warm: it takes a tenth of the start, and finds next to nothing
        runner.read_ahead()
    with runner.starting.measure("sdk"):
        runpod = sdk.import_runpod()
    worker = Worker(runner, on_runpod=on_runpod)
    config = _sdk_handler(worker, on_runpod=on_runpod)
    if on_runpod:
        # before the loop runs there is nothing to finish; process 1 of a container ignores what it does not handle
        signal.signal(signal.SIGTERM, lambda *_: os._exit(128 + signal.SIGTERM))
        sdk.die_with_parent()
        threading.Thread(target=_watch_loading, args=(runner,), name="loading", daemon=True).start()
        register_checks(runpod, runner)
        loop = sdk.Loop(
            runner.backlog,
            runner.planner.kind_of,
            take_ahead_s=settings.take_ahead_s,
            drain_s=settings.drain_s,
            is_broken=lambda: runner.lane.broken,
            on_session=worker.use,
            on_stop=worker.stop,
        )
        if loop.install():
            config["concurrency_modifier"] = lambda _: sdk.TAKEN_AT_ONCE
        else:
            logs.logger.warning("this SDK's loop has other seams: one job at a time, none taken ahead")
    runpod.serverless.start(config)


if __name__ == "__main__":
    main()
