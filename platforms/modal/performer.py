"""Runs the jobs of the synchronous routes as calls: a request waits for its call as long as Modal holds it."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import anyio

from platforms.modal.backend import ModalBackend
from platforms.modal.told import LONGEST_WAIT_S
from shared import logs
from shared.errors import Cancelled, DeadlineExceeded, Internal, InvalidInput
from shared.job import Piece
from shared.jobs.backend import JobView, Policy, Submission
from shared.jobs.failures import failure_of_job
from shared.jobs.performer import OnPiece, Unfinished
from shared.jobs.terms import NO_TERMS, Terms

HOLD_S = 10.0
LONGEST_STREAM_S = 23 * 3600  # Modal ends a request after a day, and all others of its container with it
TRIES_AFTER_S = (0, 1, 5, 10)  # of a cancel that nobody will ask for again


class Performing:
    """One job of a ModalPerformer; `streams` says whether its text is handed on as it comes."""

    def __init__(self, job_id: str, backend: ModalBackend, *, streams: bool) -> None:
        self.job_id = job_id
        self.streams = streams
        self.ended: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self.ended.add_done_callback(lambda done: done.exception())  # also where nobody else asks for it
        self.backend = backend
        self.is_stopped = asyncio.Event()
        self.following = 0  # the number of the event after the last that was read

    def stop(self, reason: str) -> None:
        """See Performance; what has ended, or goes on without this request, is left alone."""
        if not self.ended.done():
            self.is_stopped.set()

    def leave(self) -> None:
        """Tell who waits that the job goes on without this request, and where."""
        endpoint = self.backend.endpoint
        if not self.streams:
            self.ended.set_exception(Unfinished(endpoint, self.job_id))
            return
        rest = f"/v2/{endpoint}/stream/{self.job_id}?from={self.following}"
        words = f"this answer ends here, and its job goes on: GET {rest} has the rest"
        self.ended.set_exception(DeadlineExceeded(words, job_id=self.job_id, next=self.following))

    def settle(self, view: JobView) -> None:
        """Tell of the end."""
        if view.status == "COMPLETED":
            self.ended.set_result(json.loads(view.output or b"null"))
        else:
            self.ended.set_exception(failure_of_job({"id": view.id, "status": view.status, "error": view.error}))


class ModalPerformer:
    """Implements Performer over the endpoints' backends; lives on one event loop.

    A request that Modal would hold no longer is told where its job can be asked for, and the job goes on.
    `backend_of` finds the backend whose endpoint serves a pipeline.
    """

    def __init__(self, backend_of: Callable[[str], ModalBackend]) -> None:
        self._backend_of = backend_of
        self._inside: dict[str, Performing] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @contextmanager
    def admit(self) -> Iterator[None]:
        """See Performer: Modal's queue is the only one."""
        yield

    def start(self, job_input: dict[str, Any], on_piece: OnPiece, terms: Terms = NO_TERMS) -> Performing:
        """See Performer; a queue that is full is how the job ends.

        Raises:
            JobError: it could not run; nothing was queued.
        """
        job_id = terms.job_id or ModalBackend.new_id()
        if job_id in self._inside:
            raise InvalidInput("X-Job-Id: another job of this id runs here; give each its own")
        backend = self._backend_of(job_input["pipeline"])
        plan = backend.planner.plan(job_input)
        streams = plan.handler.stream and getattr(plan.params, "stream", True)
        performing = Performing(job_id, backend, streams=streams)
        self._inside[job_id] = performing
        task = asyncio.create_task(self._run(performing, job_input, on_piece, terms))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return performing

    def find(self, job_id: str) -> Performing | None:
        """See Performer: those of this container's requests."""
        return self._inside.get(job_id)

    def waiting(self) -> int:
        """See Performer."""
        return 0

    async def _run(
        self, performing: Performing, job_input: Mapping[str, Any], on_piece: OnPiece, terms: Terms
    ) -> None:
        policy = Policy(max(1, round(terms.timeout_s * 1000))) if terms.timeout_s else Policy()
        submission = Submission(dict(job_input), policy=policy)
        queueing = asyncio.create_task(performing.backend.submit(submission, is_whole=True, job_id=performing.job_id))
        longest_s = LONGEST_STREAM_S if performing.streams else LONGEST_WAIT_S
        try:
            async with asyncio.timeout(longest_s), _unless(performing.is_stopped):
                await asyncio.shield(queueing)  # stopped half-way, it would leave a call that nobody knows
                performing.settle(await self._followed(performing, on_piece))
        except TimeoutError:
            performing.leave()
        except _Left:
            await _cancel(performing, queueing)
            performing.ended.set_exception(Cancelled("the client hung up"))
        except BaseException as error:  # noqa: BLE001 whoever waits for the job has to hear of it
            await _cancel(performing, queueing)
            performing.ended.set_exception(error)
        finally:
            del self._inside[performing.job_id]

    async def _followed(self, performing: Performing, on_piece: OnPiece) -> JobView:
        """Its text is handed on as it comes, until it has ended.

        Raises:
            Internal: the job's container was lost after text of it was handed on, and it begins anew.
        """
        backend, ended, last_read = performing.backend, False, -1
        if not performing.streams:
            while not (view := await backend.wait(performing.job_id, HOLD_S)).ended:
                pass
            return view
        while not ended:
            told = await backend.stream(performing.job_id, performing.following, HOLD_S)
            if 0 <= last_read < told.first:
                raise Internal("the job's container was lost in the middle of this answer; ask again")
            for last_read, text in told.pieces:  # noqa: B007 read in the next round
                on_piece(Piece(json.loads(text)))
            performing.following, ended = told.next, told.status not in ("IN_QUEUE", "IN_PROGRESS")
        return await backend.status(performing.job_id)


async def _cancel(performing: Performing, queueing: "asyncio.Task[JobView]") -> None:
    """Stop a job that nobody waits for, if it was queued: where that was refused, its id may be another job's."""
    with anyio.CancelScope(shield=True), contextlib.suppress(Exception):
        await queueing
        for pause_s in TRIES_AFTER_S:
            await asyncio.sleep(pause_s)
            if await _has_cancelled(performing):
                return


async def _has_cancelled(performing: Performing) -> bool:
    try:
        await performing.backend.cancel(performing.job_id)
    except Exception as exc:  # noqa: BLE001 whatever Modal raises
        about = {"job": performing.job_id, "error": type(exc).__name__}
        logs.logger.warning("a job that nobody waits for could not be cancelled", extra={"fields": about})
        return False
    return True


class _Left(Exception):
    """Nobody waits for the job any more."""


@contextlib.asynccontextmanager
async def _unless(stopped: asyncio.Event) -> AsyncIterator[None]:
    """Leave the block when the event comes.

    Raises:
        _Left: it has come.
    """
    inside = asyncio.current_task()
    watch = asyncio.create_task(stopped.wait())
    left = False

    def leave(_: Any) -> None:
        nonlocal left
        if stopped.is_set() and inside:
            left = True
            inside.cancel()

    watch.add_done_callback(leave)
    try:
        yield
    except asyncio.CancelledError:
        if left and inside:
            inside.uncancel()
            raise _Left from None
        raise
    finally:
        watch.remove_done_callback(leave)
        watch.cancel()
