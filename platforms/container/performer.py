"""Runs the jobs of the REST routes on a runner in this process: a bounded queue before one lane."""

import asyncio
import contextlib
import math
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from typing import Any

from shared.errors import (
    Cancelled,
    DeadlineExceeded,
    InsufficientCapacity,
    InvalidInput,
    JobError,
    ModelUnavailable,
    QueueFull,
)
from shared.job import Event, Job, Piece
from shared.jobs.performer import OnPiece
from shared.jobs.terms import NO_TERMS, Terms
from shared.runner import Runner

UNKNOWN_S = 10  # after which to try again, while no job has shown how long it takes
LONGEST_S = 600
LOST = "the device is lost"


class Performing:
    """One job of a RunnerPerformer."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.ended: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self.instead: JobError | None = None

    @property
    def job_id(self) -> str:
        """See Performance."""
        return self.job.id

    def stop(self, reason: str) -> None:
        """See Performance."""
        if not self.ended.done():
            self.job.cancel.cancel(reason)

    def settle(self, done: "Future[dict[str, Any]]") -> None:
        """Tell of the end; on the loop."""
        error = done.exception()
        if error is None:
            if not self.ended.done():
                self.ended.set_result(done.result())
        else:
            self.fail(self.instead if self.instead and isinstance(error, Cancelled) else error)

    def fail(self, error: BaseException) -> None:
        """Tell of the end, also of one that the runner has not reported."""
        if not self.ended.done():
            self.ended.set_exception(error)
            self.ended.exception()  # or asyncio would complain where nobody else asks for it


class RunnerPerformer:
    """Implements Performer; lives on one event loop.

    Jobs that come while the models are loaded wait for that. `on_ruin` hears that this process cannot go on,
    `on_refusal` the code of the error by which a request is turned away.
    """

    def __init__(self, runner: Runner, on_ruin: Callable[[str], None]) -> None:
        self._runner = runner
        self._on_ruin = on_ruin
        self.on_refusal: Callable[[str], None] = lambda code: None
        self._queue_max = runner.settings.queue_max
        self._inside: set[Performing] = set()
        self._held: list[Performing] = []
        self._open = 0
        self._is_ready = False
        self._refusal: JobError | None = None

    @contextmanager
    def admit(self) -> Iterator[None]:
        """See Performer."""
        self._refuse()
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1

    def is_busy(self) -> bool:
        """Whether a request is open, also one whose body is being read or whose answer is being written."""
        return self._open > 0 or bool(self._inside)

    def _refuse(self) -> None:
        if self._refusal:
            self.on_refusal(self._refusal.code)
            raise type(self._refusal)(self._refusal.message, **self._refusal.detail)
        if self._is_full():
            self.on_refusal(QueueFull.code)
            raise QueueFull(
                f"{len(self._inside)} requests are being worked on or wait (QUEUE_MAX); try again in a while",
                retry_after_s=self.retry_after_s(),
            )

    def _is_full(self) -> bool:
        inside = len(self._inside)  # looked at first: the capacity takes a look at every node
        return inside >= self._queue_max and inside >= self._runner.capacity + self._queue_max

    def start(self, job_input: dict[str, Any], on_piece: OnPiece, terms: Terms = NO_TERMS) -> Performing:
        """See Performer."""
        self._refuse()
        if terms.job_id and self.find(terms.job_id):
            raise InvalidInput("X-Job-Id: another job of this id runs here; give each its own")

        def hear(event: Event) -> None:
            if isinstance(event, Piece):
                on_piece(event)

        job_id = terms.job_id or uuid.uuid4().hex
        performing = Performing(Job(job_id, job_input, hear, timeout_s=terms.timeout_s, keeps_files=True))
        self._inside.add(performing)
        if self._is_ready:
            self._submit(performing)
        else:
            self._hold(performing)
        return performing

    def find(self, job_id: str) -> Performing | None:
        """See Performer."""
        return next((performing for performing in list(self._inside) if performing.job_id == job_id), None)

    def waiting(self) -> int:
        """See Performer."""
        return max(0, len(self._inside) - self._runner.capacity)

    def inside(self) -> int:
        """How many jobs were taken and are not answered."""
        return len(self._inside)

    def retry_after_s(self) -> int:
        """Seconds after which a request may find a place, as far as is known."""
        left_s = self._runner.backlog.remaining_s()
        return UNKNOWN_S if math.isinf(left_s) else min(LONGEST_S, max(1, math.ceil(left_s)))

    def ready(self) -> None:
        """The models are warm: what waited for them begins."""
        self._is_ready = True
        held, self._held = self._held, []
        for performing in held:
            self._submit(performing)

    def refuse(self, reason: JobError) -> None:
        """Take nothing more."""
        self._refusal = reason

    def fail(self, reason: str) -> None:
        """The models could not be loaded: nothing is taken, and what waits for them fails."""
        self.refuse(ModelUnavailable(reason))
        self.abandon(ModelUnavailable(reason))

    def cancel_all(self, instead: JobError) -> None:
        """Stop every job; those that are stopped by it end in `instead`."""
        for performing in list(self._inside):
            performing.instead = instead
            performing.stop("the worker stops")

    def abandon(self, error: JobError) -> None:
        """Answer every job with this, also one that does not stop."""
        for performing in list(self._inside):
            performing.fail(error)
            performing.job.cancel.cancel("the worker ends")
        self._inside.clear()
        self._held.clear()

    def look(self) -> None:
        """End this process where the device is lost, as also a model that is loaded ahead may lose it, or where a job
        does not leave it; to be called now and then.
        """
        lane, hang_s = self._runner.lane, self._runner.settings.hang_s
        if lane.broken and self._is_ready:
            self._ruined(LOST)
            return
        for performing in list(self._inside):
            if lane.is_stuck(performing.job, hang_s):
                performing.fail(DeadlineExceeded("the job did not stop when it was told to; this worker ends"))
                self._ruined(f"job {performing.job_id} does not stop")
                return

    def _hold(self, performing: Performing) -> None:
        loop = asyncio.get_running_loop()
        self._held.append(performing)

        def leave() -> None:
            loop.call_soon_threadsafe(self._let_go, performing)

        performing.job.cancel.on_cancel(leave)

    def _let_go(self, performing: Performing) -> None:
        """Its client left while the models were being loaded."""
        if performing in self._held:
            self._held.remove(performing)
            self._inside.discard(performing)
            performing.fail(performing.instead or Cancelled(performing.job.cancel.reason))

    def _submit(self, performing: Performing) -> None:
        loop = asyncio.get_running_loop()
        self._runner.submit(performing.job).add_done_callback(partial(self._ended, performing, loop))

    def _ended(self, performing: Performing, loop: asyncio.AbstractEventLoop, done: "Future[dict[str, Any]]") -> None:
        """The place is free before anybody hears of the end; on the job's thread."""
        self._inside.discard(performing)
        with contextlib.suppress(RuntimeError):  # the loop is gone: the process is ending
            loop.call_soon_threadsafe(self._settle, performing, done)

    def _settle(self, performing: Performing, done: "Future[dict[str, Any]]") -> None:
        performing.settle(done)
        if self._runner.lane.broken:
            self._ruined(LOST)

    def _ruined(self, reason: str) -> None:
        """What waits for the device will not get it: it is answered now, to be sent again."""
        restarts = InsufficientCapacity("this worker restarts; send the request again", retry_after_s=UNKNOWN_S)
        self.refuse(restarts)
        self.abandon(restarts)
        self._on_ruin(reason)
