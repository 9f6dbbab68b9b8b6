"""The jobs of one endpoint on Modal: function calls, and entries of a board that every container sees."""

import contextlib
import hashlib
import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn, Protocol

from platforms.modal.jobs import Board, Calls, Ended, Jobs, running_view, view_of
from platforms.modal.journal import kept
from platforms.modal.told import Reader
from shared.errors import ENDINGS, Conflict, InvalidInput, NotFound, NotSupported
from shared.job import Clock
from shared.jobs.backend import EventsView, JobView, StreamView, Submission
from shared.jobs.outputs import error_text
from shared.plan import Plan, Planner


class Shelf(Protocol):
    """The volume with the models, as far as it can be seen without a card."""

    async def check(self, plan: Plan) -> None:
        """Whether the models of a job may be there.

        Raises:
            ModelUnavailable: one of them is not.
        """


class ModalBackend:
    """Implements Backend. Every web container has one, and all that they know is on the board.

    A job is planned before it is queued, so that a wrong one, or one whose model is not on the volume, costs no card:
    it ends here, as FAILED.
    """

    def __init__(
        self, endpoint: str, planner: Planner, board: Board, calls: Calls, shelf: Shelf, clock: Clock
    ) -> None:
        """Args: `clock` is the wall time in seconds."""
        self.planner = planner
        self.endpoint = endpoint
        self._board = board
        self._calls = calls
        self._shelf = shelf
        self._clock = clock
        self._jobs = Jobs(endpoint, board, calls.ended, clock)
        self._reader = Reader(self._jobs, board)

    @staticmethod
    def new_id() -> str:
        """An id that no job has."""
        return f"{secrets.token_hex(16)}-m1"

    async def submit(self, submission: Submission, *, is_whole: bool = False, job_id: str | None = None) -> JobView:
        """See Backend; `is_whole`: text comes as one result, as synchronous requests answer it.

        Raises:
            InvalidInput: another job has the id that was given.
        """
        job_id = job_id or self.new_id()
        if (key := submission.idempotency_key) is not None:
            job_id = await self._of_key(key, submission, job_id)
        record = {
            "endpoint": self.endpoint,
            "call": None,
            "created_ms": round(self._clock() * 1000),
            "webhook": submission.webhook,
        }
        if not await self._board.put(f"{job_id}/record", record, is_new=True):
            if key is None:
                raise InvalidInput("X-Job-Id: another job has it, or had it in the last 7 days; give each its own")
            return await self.status(job_id)
        try:
            return await self._begun(job_id, submission, record, is_whole=is_whole)
        except BaseException:
            await self._board.drop(f"{job_id}/record")  # nobody has heard of it
            raise

    async def _begun(
        self, job_id: str, submission: Submission, record: Mapping[str, Any], *, is_whole: bool
    ) -> JobView:
        """Queue a job that was written down, or end it here."""
        found = await self._planned(submission.input)
        if not isinstance(found, Plan):
            await self._board.put(f"{job_id}/ended", found)
        if submission.webhook:  # first: whatever becomes of this container, what is queued is told of
            await self._calls.follow(self.endpoint, job_id, record["created_ms"], submission.input)
        if not isinstance(found, Plan):
            return view_of(job_id, found)
        job = {
            "id": job_id,
            "input": submission.input,
            "created_ms": record["created_ms"],
            "timeout_s": submission.policy.execution_timeout_ms / 1000,
            "ttl_s": submission.policy.ttl_ms / 1000,
            "s3_config": submission.s3_config,
            "is_whole": is_whole,
        }
        await self._spawn(found, job, record)
        return JobView(job_id, "IN_QUEUE")

    async def _planned(self, job_input: dict[str, Any]) -> Plan | Ended:
        """What is to be queued, or how a job ended that needs no card."""
        here = {"delay_ms": 0, "execution_ms": 0}
        try:
            if (answer := self.planner.openai_models(job_input)) is not None:
                return {"status": "COMPLETED", "output": json.dumps(answer).encode(), **here}
            plan = self.planner.plan(job_input)
            await self._shelf.check(plan)
        except ENDINGS as ending:
            return {"status": "FAILED", "error": error_text(job_input, ending), **here}
        return plan

    async def _spawn(self, plan: Plan, job: Mapping[str, Any], record: Mapping[str, Any]) -> None:
        """Queue the job, and write down its call; where that fails, no call is left that nobody knows."""
        call = await self._calls.spawn(plan, job)
        try:
            await self._board.put(f"{job['id']}/record", {**record, "call": call})
        except BaseException:
            with contextlib.suppress(Exception):
                await self._calls.cancel(call)
            raise
        if await self._board.get(f"{job['id']}/ended"):  # cancelled, by who could not know the call
            await self._calls.cancel(call)

    async def _of_key(self, key: str, submission: Submission, job_id: str) -> str:
        """The job that has the key: this one, or the one that had it before."""
        name = f"key/{self.endpoint}/{hashlib.sha256(key.encode()).hexdigest()}"
        entry = {"id": job_id, "digest": submission.digest()}
        if await self._board.put(name, entry, is_new=True):
            return job_id
        before = await self._board.get(name)
        if before and before["digest"] != entry["digest"]:
            raise Conflict("Idempotency-Key: it belongs to another request")
        return str(before["id"]) if before else job_id

    async def status(self, job_id: str, ttl_ms: int | None = None) -> JobView:
        """See Backend."""
        if ttl_ms is not None:
            raise NotSupported("ttl: Modal keeps results for 7 days, which cannot be changed")
        return await self.wait(job_id, 0)

    async def wait(self, job_id: str, timeout_s: float) -> JobView:
        """See Backend; Modal itself redirects a request that it holds no longer, and goes on with it."""
        record = await self._jobs.record(job_id)
        if ended := await self._jobs.ended(job_id, record, timeout_s):
            return view_of(job_id, ended)
        return running_view(job_id, record, await self._jobs.state(job_id))

    async def stream(self, job_id: str, start: int | None, wait_s: float) -> StreamView:
        """See Backend. Without `start` it goes on where the last such reader stood; two of them may read alike."""
        place = f"{job_id}/read"
        begin = (await self._board.get(place) or 0) if start is None else start
        read = await self._reader.read(job_id, begin, wait_s, only_pieces=True)
        if start is None and read.next > begin:
            await self._board.put(place, read.next)
        pieces = [(n, text) for n, kind, text in read.events if kind == "piece"]
        return StreamView(read.status, pieces, read.next, read.first)

    async def events(self, job_id: str, start: int, wait_s: float) -> EventsView:
        """See Backend."""
        read = await self._reader.read(job_id, start, wait_s, only_pieces=False)
        return EventsView(read.status, read.events, read.next, read.first)

    async def cancel(self, job_id: str) -> JobView:
        """See Backend; one that is asked for again is sent to Modal again, for the first may have been lost."""
        record = await self._jobs.record(job_id)
        ended = await self._jobs.ended(job_id, record)
        if ended and ended["status"] != "CANCELLED":
            return view_of(job_id, ended)
        state = await self._jobs.state(job_id)
        delay_ms = running_view(job_id, record, state).delay_ms
        noted = {"status": "CANCELLED", "delay_ms": delay_ms, "kept": kept(state) if state else None}
        await self._board.put(f"{job_id}/ended", noted, is_new=True)
        record = await self._jobs.record(job_id)  # again: who queues the job has written its call, or sees the note
        if call := await self._jobs.call(job_id, record):
            await self._calls.cancel(call)
        return view_of(job_id, await self._jobs.ended(job_id, record) or noted)

    async def retry(self, job_id: str) -> NoReturn:
        """See Backend."""
        raise NotSupported("retry: Modal keeps no jobs that could be queued again; submit it anew")

    async def purge(self) -> NoReturn:
        """See Backend."""
        raise NotSupported("purge-queue: Modal's queue cannot be emptied; cancel the jobs one by one")

    async def health(self) -> dict[str, Any]:
        """See Backend; Modal counts what waits and the containers, and nothing that has ended."""
        waiting, running, containers = await self._calls.counts()
        return {
            "jobs": {"inQueue": waiting, "inProgress": running},
            "workers": _workers(waiting, running, containers),
        }

    async def metrics(self) -> dict[str, Any]:
        """See Backend."""
        return {"workers": _workers(*await self._calls.counts()), "readyWorkers": []}

    async def file(self, job_id: str, name: str) -> Path:
        """See Backend; results hold their files, or are in a bucket."""
        raise NotFound(f"the job has no file `{name[:64]}`")


def _workers(waiting: int, running: int, containers: int) -> dict[str, int]:
    """The containers by state: one that has no job while jobs wait is starting."""
    free = max(0, containers - running)
    starting = min(free, waiting)
    return {"running": running, "initializing": starting, "idle": free - starting, "ready": free - starting}
