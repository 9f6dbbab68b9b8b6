"""What became of a job: by its call, and by what the board has of it."""

from collections.abc import Mapping
from typing import Any, Protocol

from platforms.modal.journal import progress_of
from shared.errors import NotFound
from shared.job import Clock
from shared.jobs.backend import JobView
from shared.plan import Plan

SPAWNED_WITHIN_S = 120.0  # a job that has no call by then was lost with the container that took it

Ended = Mapping[str, Any]  # status, output (JSON text) or error, delay_ms and execution_ms


class Board(Protocol):
    """Entries by name, as the web function reaches them: `modal.Dict`, or a stand-in."""

    async def get(self, name: str) -> Any:
        """The entry; None where there is none, or no more."""

    async def put(self, name: str, entry: Any, *, is_new: bool = False) -> bool:
        """Write an entry; with `is_new` only where there is none, and say whether."""

    async def drop(self, name: str) -> None:
        """Remove the entry, if it is there."""


class Ends(Protocol):
    """Asks Modal for the end of a call."""

    async def __call__(self, call: str, timeout_s: float) -> Ended | None:
        """How the call ended, waited for so long; None while it has not.

        Raises:
            NotFound: Modal knows no such call, or not any more.
            InsufficientCapacity: Modal does not say.
        """


class Calls(Protocol):
    """The calls of the app: of the class that runs the jobs, and of the function that tells of their ends."""

    @property
    def ended(self) -> Ends:
        """Whom to ask."""

    async def spawn(self, plan: Plan, job: Mapping[str, Any]) -> str:
        """Queue a job; the id of its call.

        Raises:
            QueueFull: Modal takes no more.
        """

    async def follow(self, endpoint: str, job_id: str, created_ms: int, job_input: Any) -> None:
        """Have the job's webhook called once it has ended, whatever becomes of who asks.

        Raises:
            QueueFull: Modal takes no more.
        """

    async def cancel(self, call: str) -> None:
        """Stop the call, wherever it is."""

    async def counts(self) -> tuple[int, int, int]:
        """How many calls wait, how many run, and how many containers there are."""


class Jobs:
    """The jobs of one endpoint, for who asks how they are; `clock` is the wall time in seconds."""

    def __init__(self, endpoint: str, board: Board, ends: Ends, clock: Clock) -> None:
        self.endpoint = endpoint
        self._board = board
        self._ends = ends
        self._clock = clock

    async def record(self, job_id: str) -> dict[str, Any]:
        """What was written down when the job was taken: endpoint, call, created_ms and webhook.

        Raises:
            NotFound: nobody took such a job, or it is forgotten.
        """
        record: dict[str, Any] | None = await self._board.get(f"{job_id}/record")
        if record is None or record["endpoint"] != self.endpoint:
            raise NotFound(f"no job `{job_id[:64]}`; results are kept for 7 days")
        return record

    async def state(self, job_id: str) -> dict[str, Any] | None:
        """What its container has told; None before it has."""
        state: dict[str, Any] | None = await self._board.get(f"{job_id}/state")
        return state

    async def call(self, job_id: str, record: Mapping[str, Any]) -> str | None:
        """The job's call, by who queued it or by the container that runs it."""
        call: str | None = record["call"] or ((await self.state(job_id)) or {}).get("call")
        return call

    async def ended(
        self, job_id: str, record: Mapping[str, Any], timeout_s: float = 0, *, settled: bool = False
    ) -> Ended | None:
        """How the job ended, waited for so long: by its call, or as was noted; None while it has not.

        One that was cancelled has ended for its clients. With `settled` it has once its call has too: until then it
        may complete.
        """
        noted: Ended | None = await self._board.get(f"{job_id}/ended")
        if noted and noted["status"] != "CANCELLED":
            return noted
        call = await self.call(job_id, record)
        if call is None:
            return noted or await self._lost(job_id, record)
        ended = await self._ends(call, timeout_s if settled or not noted else 0)
        if ended is None and settled:
            return None
        # a call that was cancelled ends in an error of Modal's; one that had completed by then has completed
        return ended if ended and (not noted or ended["status"] == "COMPLETED") else noted

    async def _lost(self, job_id: str, record: Mapping[str, Any]) -> Ended | None:
        if self._clock() - record["created_ms"] / 1000 < SPAWNED_WITHIN_S:
            return None
        error = "internal: the job was lost before it was queued; submit it again, with a new Idempotency-Key if any"
        lost = {"status": "FAILED", "error": error}
        # a container that gets it after all must not run it: by then it has been submitted again
        await self._board.put(f"{job_id}/ended", lost, is_new=True)
        return lost


def view_of(job_id: str, ended: Ended) -> JobView:
    """A job that has ended, as its client sees it."""
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


def running_view(job_id: str, record: Mapping[str, Any], state: Mapping[str, Any] | None) -> JobView:
    """A job that has not ended; it waits until it has told something: Modal does not say whether a call has begun."""
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
