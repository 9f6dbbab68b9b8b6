"""What waits for which deployment, as the queues have it; used on the server's loop."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from platforms.local.deployments import Deployment
from platforms.local.queue import SqliteBackend
from platforms.local.seats import Seat
from shared import openai
from shared.errors import Ending, InsufficientCapacity

_MOST_AT_A_LOOK = 32  # inputs, which may be 20 MB each


@dataclass
class Waiting:
    """The queued jobs of a deployment; `since` is the wall time at which the oldest was queued."""

    deployment: Deployment
    since: float
    jobs: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class New:
    """A job of which nobody knows yet what it needs."""

    endpoint: str
    job_id: str
    input: bytes


@dataclass(frozen=True)
class Look:
    """The queues at one moment: what waits, by the deployment's key, which workers hold jobs, and what is new."""

    waiting: Mapping[str, Waiting]
    holders: frozenset[str]
    new: Sequence[New]

    def holds_jobs(self, seat: Seat) -> bool:
        """Whether a worker of the seat has a job."""
        return any(map(seat.pool.owns, self.holders))


@dataclass
class Ask:
    """Somebody wants a deployment to be warm, before any job."""

    deployment: Deployment
    done: bool = False
    error: str | None = None


class Demand:
    """Jobs by deployment, and who asked for one to be warm. Implements polls.Groups."""

    def __init__(
        self, backends: Mapping[str, SqliteBackend], seats: Sequence[Seat], on_new: Callable[[], None]
    ) -> None:
        """Args: `on_new` hears that there may be something to do."""
        self.asks: dict[str, Ask] = {}
        self._backends = backends
        self._seats = seats
        self._on_new = on_new
        self._needs: dict[str, Deployment] = {}
        for backend in backends.values():
            backend.desk.polls.groups = self
            backend.ledger.on_queue = self._queued(backend)

    def _queued(self, backend: SqliteBackend) -> Callable[[], None]:
        def on_queue() -> None:
            backend.desk.polls.hand_out()
            self._on_new()

        return on_queue

    def of_job(self, job_id: str) -> str | None:
        """See polls.Groups."""
        needed = self._needs.get(job_id)
        return needed.key if needed else None

    def of_worker(self, worker_id: str) -> str | None:
        """See polls.Groups."""
        seat = self.seat_of(worker_id)
        return None if seat is None or seat.draining or seat.closing else seat.deployment.key

    def seat_of(self, worker_id: str) -> Seat | None:
        """Where a worker sits."""
        return next((seat for seat in list(self._seats) if seat.pool.owns(worker_id)), None)

    def look(self) -> Look:
        """The queues now; what was assigned to jobs that have ended is forgotten."""
        waiting: dict[str, Waiting] = {}
        new: list[New] = []
        holders: set[str] = set()
        needs: dict[str, Deployment] = {}
        for endpoint, backend in self._backends.items():
            store = backend.desk.store
            for row in store.in_progress():
                holders.add(row.worker or "")
                if needed := self._needs.get(row.id):
                    needs[row.id] = needed
            for row in store.queued():
                if needed := self._needs.get(row.id):
                    needs[row.id] = needed
                    waiting.setdefault(needed.key, Waiting(needed, row.queued_at)).jobs.append(row.id)
                elif len(new) < _MOST_AT_A_LOOK:
                    new.append(New(endpoint, row.id, store.payload(row.id, "input") or b"{}"))
        self._needs = needs
        return Look(waiting, frozenset(holders), new)

    def assign(self, job: New, deployment: Deployment) -> None:
        """The job is for the workers of this deployment."""
        self._needs[job.job_id] = deployment
        self._backends[job.endpoint].desk.polls.hand_out()

    def answer(self, job: New, output: Any) -> None:
        """End a job that needs no worker."""
        ledger, store = self._backends[job.endpoint].ledger, self._backends[job.endpoint].desk.store
        if (row := store.get(job.job_id)) and row.status == "IN_QUEUE":
            ledger.end(row, "COMPLETED", json.dumps(output).encode())

    def refuse(self, endpoint: str, job_id: str, ending: Ending) -> None:
        """Fail a job that no worker has, in the words in which a worker would."""
        ledger, store = self._backends[endpoint].ledger, self._backends[endpoint].desk.store
        if (row := store.get(job_id)) and row.status == "IN_QUEUE":
            asked = json.loads(store.payload(job_id, "input") or b"{}")
            by_openai = isinstance(asked, dict) and asked.get("openai_route") is not None
            text = json.dumps(openai.error(ending)["error"]) if by_openai else str(ending)
            ledger.end(row, "FAILED", error=text.encode(errors="replace").decode())

    def fail(self, deployment: Deployment, error: InsufficientCapacity) -> None:
        """No worker can be had: end the jobs that wait for it, and tell who asked for it."""
        for row in self._backends[deployment.endpoint].desk.store.queued():
            if self.of_job(row.id) == deployment.key:
                self.refuse(deployment.endpoint, row.id, error)
        if ask := self.asks.pop(deployment.key, None):
            ask.error = error.message
            self._ring(deployment)

    def warmed(self, deployment: Deployment) -> None:
        """Tell who asked that the deployment's worker is ready."""
        if ask := self.asks.pop(deployment.key, None):
            ask.done = True
            self._ring(deployment)

    def _ring(self, deployment: Deployment) -> None:
        self._backends[deployment.endpoint].bell.ring(f"warm:{deployment.key}")

    async def wait(self, ask: Ask, timeout_s: float) -> None:
        """Return once the ask has come to an end, or after `timeout_s`."""
        if not ask.done and ask.error is None:
            await self._backends[ask.deployment.endpoint].bell.wait(f"warm:{ask.deployment.key}", timeout_s)

    def close(self, seats: Sequence[Seat]) -> list[Seat]:
        """Let nothing more go to those of the seats that hold no job now, and return them."""
        holders = [row.worker or "" for each in self._backends.values() for row in each.desk.store.in_progress()]
        free = [seat for seat in seats if not (seat.closing or any(map(seat.pool.owns, holders)))]
        for seat in free:
            seat.closing = True
        return free
