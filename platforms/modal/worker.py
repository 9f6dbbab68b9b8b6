"""Runs the jobs of one container on a runner: what they tell goes to the board, how they end is the call's value."""

import asyncio
import contextlib
import json
import os
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from platforms.modal.journal import Board, Journal
from shared import logs
from shared.errors import (
    ENDINGS,
    Cancelled,
    DeadlineExceeded,
    DeviceLost,
    Ending,
    InvalidInput,
    JobError,
    ModelUnavailable,
    Stopped,
)
from shared.job import Event, Job, Piece
from shared.jobs.outputs import closing, error_text, split, wants_events
from shared.readiness import checks
from shared.runner import Runner
from shared.settings import Settings

WATCH_EVERY_S = 1.0
ANSWERED_WITHIN_S = 5.0  # for the last answer of a container that ends to be on its way


class ModalWorker:
    """The jobs of one container.

    Args:
        board: where jobs are told of.
        look_again: lets the container see what was written to the volume since it started.
        take_no_more: tells Modal that this container takes no further job.
    """

    def __init__(
        self, runner: Runner, board: Board, *, look_again: Callable[[], None], take_no_more: Callable[[], None]
    ) -> None:
        self.runner = runner
        self._board = board
        self._look_again = look_again
        self._take_no_more = take_no_more
        self._unfit: JobError | Stopped | None = None
        self._is_fit = False

    def before_snapshot(self, *, on_card: bool) -> None:
        """Do what a snapshot can hold: read the model, or with `on_card` all of it, for the card is there too."""
        if on_card:
            self._start()
        else:
            self.runner.load_ahead("cpu" if self.runner.settings.device == "cpu" else "cuda")

    def after_snapshot(self) -> None:
        """Make ready to run jobs in this very container; what keeps it from that is what its first job is told.

        A container that did not start would be started again and again, at the price of its card.
        """
        here = {"modal_task_id": Settings.from_env().modal_task_id}  # that of the snapshot is another container's
        self.runner.settings = self.runner.settings.model_copy(update=here)
        if self.runner.planner.torch_free:
            self.runner.read_ahead()
        if not self._is_fit:
            self._start()
        else:
            self.runner.place_ahead()

    def _start(self) -> None:
        self._unfit = None
        try:
            self.runner.place_ahead()
            for check in checks(self.runner):
                self._twice(check)
        except ENDINGS as ending:
            self._unfit = ending
        except Exception as exc:  # noqa: BLE001 whatever it is, the first job has to tell of it
            logs.logger.error("this container is not fit", exc_info=exc)
            self._unfit = ModelUnavailable(f"this container cannot run its jobs: {type(exc).__name__}; see its log")
        self._is_fit = self._unfit is None

    def _twice(self, check: Callable[[], None]) -> None:
        """A model that is missing may have been downloaded after this container was started."""
        try:
            check()
        except ModelUnavailable:
            self._look_again()
            check()

    async def run(self, given: dict[str, Any], call: str) -> dict[str, Any]:
        """Run a job of `backend.ModalBackend`, and return how it ended: nothing but a cancelled call raises.

        An error that left this call would reach the web function as one of its own; a TimeoutError would mean to it
        that the job goes on.

        Args:
            given: its id, input and terms.
            call: the id of this call.

        Raises:
            asyncio.CancelledError: Modal stopped the call, and the job has left the device.
        """
        begun_ms, job_id = _now_ms(), given["id"]
        try:
            if not await asyncio.to_thread(self._is_wanted, given):
                return {"status": "CANCELLED"}
            ended = await self._told(given, call, begun_ms)
        except Exception as exc:  # noqa: BLE001 whatever Modal's board raises
            logs.logger.error("the job could not be begun", extra={"fields": {"job": job_id}}, exc_info=exc)
            error = f"insufficient_capacity: the job could not be begun ({type(exc).__name__}); submit it again"
            ended = {"status": "FAILED", "error": error, "worker": self.runner.settings.worker_id, "retries": 0}
            ended |= {"delay_ms": max(0, begun_ms - given["created_ms"]), "execution_ms": 0}
        return ended

    def _is_wanted(self, given: dict[str, Any]) -> bool:
        """Whether somebody can ask for the job: it was not cancelled before its call was known, and it is the one
        that was written down. Where queueing it seemed to fail, another one may have its id by now.
        """
        record = self._board.get(f"{given['id']}/record")
        is_known = record is not None and record["created_ms"] == given["created_ms"]
        return is_known and not self._board.get(f"{given['id']}/ended")

    async def _told(self, given: dict[str, Any], call: str, begun_ms: int) -> dict[str, Any]:
        """How the job ended, with when and where; it is told of while it runs."""
        job_id = given["id"]
        journal = await asyncio.to_thread(
            Journal, self._board, job_id, call=call, worker=self.runner.settings.worker_id
        )
        try:
            ended = await self._ended(given, journal)
        finally:
            await asyncio.to_thread(journal.close)
        started_ms = journal.started_ms or begun_ms
        ended |= {
            "worker": self.runner.settings.worker_id,
            "delay_ms": max(0, started_ms - given["created_ms"]),
            "execution_ms": max(0, _now_ms() - started_ms),
            "retries": journal.runs - 1,
        }
        if ended["status"] != "COMPLETED" and (kept := journal.kept()):
            ended["kept"] = kept
        return ended

    async def _ended(self, given: dict[str, Any], journal: Journal) -> dict[str, Any]:
        job_input = given["input"]
        streams = self.runner.planner.streams and not given["is_whole"]
        spoken = _Spoken(journal) if streams else None
        try:
            if wants_events(job_input) and not self.runner.planner.streams:
                raise InvalidInput("this pipeline writes no text; ask without stream")
            if _now_ms() - given["created_ms"] > given["ttl_s"] * 1000:
                raise DeadlineExceeded("the job waited longer than its policy.ttl")
            if self._unfit:
                self._take_no_more()  # the next container looks anew
                raise self._unfit
            hear = partial(_hear, journal, spoken)
            result = await self._result(self._job(given, hear))
        except ENDINGS as ending:
            return self._failed(job_input, ending, spoken)
        if spoken is None:
            return {"status": "COMPLETED", "output": json.dumps(result.get("answer", result)).encode()}
        for last in closing(job_input, result, began=bool(spoken.pieces)):
            spoken.say(last)
        return {"status": "COMPLETED", "output": json.dumps(spoken.pieces).encode()}

    def _failed(self, job_input: Any, ending: Ending, spoken: "_Spoken | None") -> dict[str, Any]:
        if isinstance(ending, DeviceLost):
            self._take_no_more()
        status = {Cancelled.code: "CANCELLED", DeadlineExceeded.code: "TIMED_OUT"}.get(ending.code, "FAILED")
        error = error_text(job_input, ending)
        if spoken is not None and spoken.pieces:
            for last in closing(job_input, {"error": error}, began=True):
                if isinstance(last, str):
                    spoken.say(last)
        return {"status": status, "error": error}

    def _job(self, given: dict[str, Any], events: Callable[[Event], None]) -> Job:
        return Job(
            given["id"],
            given["input"],
            events,
            timeout_s=given["timeout_s"],
            s3_config=given["s3_config"],
            can_recur=True,
        )

    async def _result(self, job: Job) -> dict[str, Any]:
        """The job's result or Ending; a call that is stopped waits until it has left the device."""
        future = asyncio.wrap_future(self.runner.submit(job))
        future.add_done_callback(lambda done: done.cancelled() or done.exception())  # also where nobody asks
        try:
            while not future.done():
                await asyncio.wait({future}, timeout=WATCH_EVERY_S)
                if self.runner.lane.is_stuck(job, self.runner.settings.hang_s):
                    self._end_soon()
                    raise DeadlineExceeded("the job did not stop when it was told to; its container ends")
            return future.result()
        except asyncio.CancelledError:
            job.cancel.cancel("the endpoint stopped the job")
            await self._left(job, future)
            raise

    async def _left(self, job: Job, future: "asyncio.Future[dict[str, Any]]") -> None:
        while not future.done() and self.runner.lane.holds(job):
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait({future}, timeout=WATCH_EVERY_S)
            if self.runner.lane.is_stuck(job, self.runner.settings.hang_s):
                self._end_soon()
                return

    def _end_soon(self) -> None:
        """End the process, which alone can free the device, once its last answer has left."""
        self._take_no_more()
        threading.Timer(ANSWERED_WITHIN_S, os._exit, (1,)).start()


class _Spoken:
    """The pieces of a job whose output is a text, as they leave."""

    def __init__(self, journal: Journal) -> None:
        self.pieces: list[Any] = []
        self._journal = journal

    def say(self, value: Any) -> None:
        self.pieces.append(value)
        self._journal.piece(value)


def _hear(journal: Journal, spoken: _Spoken | None, event: Event) -> None:
    """What a job reports, on the device's thread; the pieces of a whole result are those of its listener."""
    if isinstance(event, Piece) and spoken is not None and isinstance(event.value, str):
        for part in split(event.value):
            spoken.say(part)
    else:
        journal.hear(event)


def _now_ms() -> int:
    return round(time.time() * 1000)
