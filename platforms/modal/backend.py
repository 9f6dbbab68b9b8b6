"""The jobs of one endpoint on Modal: function calls, and entries of a board that every container sees."""

import asyncio
import contextlib
import hashlib
import itertools
import json
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn, Protocol

from platforms.modal.journal import Told, kept, progress_of
from shared.errors import ENDINGS, Conflict, InvalidInput, NotFound, NotSupported
from shared.job import Clock
from shared.jobs.backend import EventKind, EventsView, JobView, Status, StreamView, Submission
from shared.jobs.outputs import error_text
from shared.plan import Plan, Planner

LOOK_EVERY_S = (0.25, 1.0)  # at the board, while a client waits: less often while a job waits for its container
LONGEST_WAIT_S = 140.0  # Modal answers a request of more than 150 s with a redirect
SPAWNED_WITHIN_S = 120.0  # a job that has no call by then was lost with the container that took it
ANSWER_BYTES = 1_000_000  # of pieces in one answer; the next one has more

Ended = Mapping[str, Any]  # status, output (JSON text) or error, delay_ms and execution_ms


class Board(Protocol):
    """Entries by name, as the web function reaches them: `modal.Dict`, or a stand-in."""

    async def get(self, name: str) -> Any:
        """The entry; None where there is none, or no more."""

    async def put(self, name: str, entry: Any, *, is_new: bool = False) -> bool:
        """Write an entry; with `is_new` only where there is none, and say whether."""

    async def drop(self, name: str) -> None:
        """Remove the entry, if it is there."""


class Calls(Protocol):
    """The calls of the class that runs the jobs."""

    async def spawn(self, plan: Plan, job: Mapping[str, Any]) -> str:
        """Queue a job; the id of its call.

        Raises:
            QueueFull: Modal takes no more.
        """

    async def ended(self, call: str, timeout_s: float) -> Ended | None:
        """How the call ended, waited for so long; None while it has not.

        Raises:
            NotFound: Modal knows no such call, or not any more.
            InsufficientCapacity: Modal does not say.
        """

    async def cancel(self, call: str) -> None:
        """Stop the call, wherever it is."""

    async def counts(self) -> tuple[int, int, int]:
        """How many calls wait, how many run, and how many containers there are."""


class ModalBackend:
    """Implements Backend. Every web container has one, and all that they know is on the board.

    A job is planned before it is queued, so that a wrong one costs no card: it ends here, as FAILED.
    """

    def __init__(
        self,
        endpoint: str,
        planner: Planner,
        board: Board,
        calls: Calls,
        clock: Clock,
        call_webhook: Callable[[str, bytes], None],
    ) -> None:
        """Args: `clock` is the wall time in seconds; `call_webhook` must return at once."""
        self.planner = planner
        self.endpoint = endpoint
        self._board = board
        self._calls = calls
        self._clock = clock
        self._call_webhook = call_webhook

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
            "created_ms": self._now_ms(),
            "webhook": submission.webhook,
        }
        if not await self._board.put(f"{job_id}/record", record, is_new=True):
            if key is None:
                raise InvalidInput("X-Job-Id: another job has it, or had it in the last 7 days; give each its own")
            return await self.status(job_id)
        try:
            plan = self.planner.plan(submission.input) if not self._answer(submission.input) else None
        except ENDINGS as ending:
            error = error_text(submission.input, ending)
            return await self._end_here(job_id, submission, {"status": "FAILED", "error": error})
        if plan is None:
            output = json.dumps(self._answer(submission.input)).encode()
            return await self._end_here(job_id, submission, {"status": "COMPLETED", "output": output})
        job = {
            "id": job_id,
            "input": submission.input,
            "created_ms": record["created_ms"],
            "timeout_s": submission.policy.execution_timeout_ms / 1000,
            "ttl_s": submission.policy.ttl_ms / 1000,
            "s3_config": submission.s3_config,
            "webhook": submission.webhook,
            "is_whole": is_whole,
        }
        await self._spawn(plan, job, record)
        return JobView(job_id, "IN_QUEUE")

    async def _spawn(self, plan: Plan, job: Mapping[str, Any], record: Mapping[str, Any]) -> None:
        """Queue the job, and write down its call; where that fails, no call is left that nobody knows."""
        job_id, call = job["id"], None
        try:
            if job["webhook"]:  # which repeats it; beside the record, for it may be large and each poll reads that
                await self._board.put(f"{job_id}/input", job["input"])
            call = await self._calls.spawn(plan, job)
            await self._board.put(f"{job_id}/record", {**record, "call": call})
        except BaseException:
            if call:
                with contextlib.suppress(Exception):
                    await self._calls.cancel(call)
            await self._board.drop(f"{job_id}/record")  # nobody has heard of it
            raise
        if await self._board.get(f"{job_id}/ended"):  # cancelled, by who could not know the call
            await self._calls.cancel(call)

    def _answer(self, job_input: dict[str, Any]) -> dict[str, Any] | None:
        """What needs no card."""
        return self.planner.openai_models(job_input)

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

    async def _end_here(self, job_id: str, submission: Submission, ended: dict[str, Any]) -> JobView:
        ended = {**ended, "delay_ms": 0, "execution_ms": 0}
        await self._board.put(f"{job_id}/ended", ended)
        view = _view(job_id, ended)
        if submission.webhook:
            self._tell(submission.webhook, submission.input, view)
        return view

    def _tell(self, webhook: str, job_input: Any, view: JobView) -> None:
        """The webhook of a job that no container ends."""
        more = {"input": json.dumps(job_input), "webhook": json.dumps(webhook)}
        self._call_webhook(webhook, view.to_json({name: value.encode() for name, value in more.items()}))

    async def status(self, job_id: str, ttl_ms: int | None = None) -> JobView:
        """See Backend."""
        if ttl_ms is not None:
            raise NotSupported("ttl: Modal keeps results for 7 days, which cannot be changed")
        return await self.wait(job_id, 0)

    async def wait(self, job_id: str, timeout_s: float) -> JobView:
        """See Backend; Modal itself redirects a request that it holds no longer, and goes on with it."""
        record = await self._known(job_id)
        ended = await self._ended(job_id, record, timeout_s)
        if ended:
            return _view(job_id, ended)
        return _running_view(job_id, record, await self._state(job_id))

    async def _ended(self, job_id: str, record: Mapping[str, Any], timeout_s: float = 0) -> Ended | None:
        """How the job ended: by its call, or as was noted here."""
        noted: Ended | None = await self._board.get(f"{job_id}/ended")
        if noted and noted["status"] != "CANCELLED":
            return noted
        call = await self._call(job_id, record)
        if call is None:
            return noted or await self._lost(job_id, record)
        ended = await self._calls.ended(call, 0 if noted else timeout_s)
        # a call that was cancelled ends in an error of Modal's; one that had completed by then has completed
        return ended if ended and (not noted or ended["status"] == "COMPLETED") else noted

    async def _call(self, job_id: str, record: Mapping[str, Any]) -> str | None:
        """The job's call, by who queued it or by the container that runs it."""
        call: str | None = record["call"] or ((await self._state(job_id)) or {}).get("call")
        return call

    async def _lost(self, job_id: str, record: Mapping[str, Any]) -> Ended | None:
        if self._now_ms() - record["created_ms"] < SPAWNED_WITHIN_S * 1000:
            return None
        error = "internal: the job was lost before it was queued; submit it again, with a new Idempotency-Key if any"
        lost = {"status": "FAILED", "error": error}
        # a container that gets it after all must not run it: by then it has been submitted again
        await self._board.put(f"{job_id}/ended", lost, is_new=True)
        return lost

    async def stream(self, job_id: str, start: int | None, wait_s: float) -> StreamView:
        """See Backend. Without `start` it goes on where the last such reader stood; two of them may read alike."""
        read = f"{job_id}/read"
        begin = (await self._board.get(read) or 0) if start is None else start
        status, first, following, told = await self._told(job_id, begin, wait_s, only_pieces=True)
        pieces = [(n, text) for n, kind, text in told if kind == "piece"]
        if start is None and following > begin:
            await self._board.put(read, following)
        return StreamView(status, pieces, following, first)

    async def events(self, job_id: str, start: int, wait_s: float) -> EventsView:
        """See Backend."""
        status, first, following, told = await self._told(job_id, start, wait_s, only_pieces=False)
        return EventsView(status, told, following, first)

    async def _told(
        self, job_id: str, start: int, wait_s: float, *, only_pieces: bool
    ) -> tuple[Status, int, int, list[tuple[int, EventKind, bytes]]]:
        record = await self._known(job_id)
        loop = asyncio.get_running_loop()
        until = loop.time() + min(wait_s, LONGEST_WAIT_S)
        while True:
            ended = await self._ended(job_id, record)  # before the state: what was told before the end is in it
            state = await self._state(job_id) or {"first": 0, "next": 0, "starts": []}
            told = await self._events(job_id, state, start)
            wanted = [event for event in told if event[1] == "piece" or not only_pieces]
            if wanted or ended or loop.time() >= until:
                break
            start = told[-1][0] + 1 if told else start
            often, seldom = LOOK_EVERY_S
            await asyncio.sleep(often if state["next"] else seldom)
        following = told[-1][0] + 1 if told else max(start, state["first"])
        rest = following < state["next"]
        status: Status = "IN_PROGRESS" if rest or (state["next"] and not ended) else "IN_QUEUE"
        return ended["status"] if ended and not rest else status, state["first"], following, told

    async def _events(self, job_id: str, state: Mapping[str, Any], start: int) -> list[tuple[int, EventKind, bytes]]:
        """Events from number `start` on, a megabyte of them or a little more."""
        starts: list[int] = state["starts"]
        found: list[tuple[int, EventKind, bytes]] = []
        size = 0
        for begun, following in itertools.pairwise([*starts, state["next"]]):
            if following <= start or size > ANSWER_BYTES:
                continue
            told: list[Told] = await self._board.get(f"{job_id}/events/{begun}") or []
            found += [(n, kind, text) for n, (kind, text) in enumerate(told, begun) if n >= start]
            size += sum(len(text) for _, text in told)
        return found

    async def cancel(self, job_id: str) -> JobView:
        """See Backend; one that is asked for again is sent to Modal again, for the first may have been lost."""
        record = await self._known(job_id)
        ended = await self._ended(job_id, record)
        if ended and ended["status"] != "CANCELLED":
            return _view(job_id, ended)
        state = await self._state(job_id)
        delay_ms = _running_view(job_id, record, state).delay_ms
        noted = {"status": "CANCELLED", "delay_ms": delay_ms, "kept": kept(state) if state else None}
        is_first = await self._board.put(f"{job_id}/ended", noted, is_new=True)
        record = await self._known(job_id)  # again: who queues the job has written its call, or sees what was noted
        if call := await self._call(job_id, record):
            await self._calls.cancel(call)
        view = _view(job_id, await self._ended(job_id, record) or noted)
        if is_first and record["webhook"] and view.status == "CANCELLED":
            self._tell(record["webhook"], await self._board.get(f"{job_id}/input"), view)
        return view

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

    async def _known(self, job_id: str) -> dict[str, Any]:
        if record := await self._record(job_id):
            return record
        raise NotFound(f"no job `{job_id[:64]}`; results are kept for 7 days")

    async def _record(self, job_id: str) -> dict[str, Any] | None:
        record: dict[str, Any] | None = await self._board.get(f"{job_id}/record")
        return record if record and record["endpoint"] == self.endpoint else None

    async def _state(self, job_id: str) -> dict[str, Any] | None:
        state: dict[str, Any] | None = await self._board.get(f"{job_id}/state")
        return state

    def _now_ms(self) -> int:
        return round(self._clock() * 1000)


def _view(job_id: str, ended: Ended) -> JobView:
    return JobView(
        job_id,
        ended["status"],
        output=ended.get("output") or ended.get("kept"),
        error=ended.get("error"),
        delay_ms=ended.get("delay_ms"),
        execution_ms=ended.get("execution_ms"),
        worker_id=ended.get("worker"),
        retries=ended.get("retries", 0),
    )


def _workers(waiting: int, running: int, containers: int) -> dict[str, int]:
    """The containers by state: one that has no job while jobs wait is starting."""
    free = max(0, containers - running)
    starting = min(free, waiting)
    return {"running": running, "initializing": starting, "idle": free - starting, "ready": free - starting}


def _running_view(job_id: str, record: Mapping[str, Any], state: Mapping[str, Any] | None) -> JobView:
    """A job waits until it has told something: Modal does not say whether a call has begun."""
    if state is None or state["progress"] is None:
        return JobView(job_id, "IN_QUEUE")
    started_ms = state["started_ms"]
    return JobView(
        job_id,
        "IN_PROGRESS",
        output=progress_of(state),
        delay_ms=started_ms and max(0, started_ms - record["created_ms"]),
        worker_id=state["worker"],
        retries=state["runs"] - 1,
    )
