"""A job backend over SQLite: one endpoint's queue on this machine."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from platforms.local.bell import Bell
from platforms.local.desk import Desk
from platforms.local.ledger import Ledger
from platforms.local.roster import Roster
from platforms.local.store import JobRow, Store
from shared.errors import NotFound, QueueFull
from shared.job import Clock
from shared.jobs.backend import ENDED, EventsView, JobView, StreamView, Submission

_QUEUE_MIN = 50
_QUEUE_PER_WORKER = 500
_RETRY_AFTER_S = 5


class SqliteBackend:
    """Jobs in `folder`, which one process owns; used from one event loop only.

    The clients' side is the methods of `shared.jobs.backend.Backend`, the workers' side is `desk`. `clock`, in
    seconds of wall time, decides about deadlines and retention; `workers` is how many the endpoint is meant to have.
    """

    def __init__(
        self,
        folder: Path,
        endpoint: str,
        clock: Clock = time.time,
        *,
        strict: bool = False,
        ping_interval_s: float = 1.0,
        workers: int = 0,
    ) -> None:
        self.endpoint = endpoint
        self.files = folder / "files"
        self.bell = Bell()
        self._strict = strict
        self._workers = workers
        self._store = Store(folder)
        self.ledger = Ledger(self._store, self.bell, clock, self.files, strict)
        self.desk = Desk(self._store, self.ledger, self.bell, Roster(ping_interval_s), clock, strict)

    def stop_waiting(self) -> None:
        """Let every held poll go; the server is about to stop."""
        self.bell.close()
        self.desk.polls.release()

    def close(self) -> None:
        """Let another process own the folder."""
        self._store.close()

    async def submit(self, submission: Submission) -> JobView:
        """Queue a job, or find the one that its idempotency key names."""
        row = self.ledger.known(submission)
        if row is None:
            self._check_room()
            row = self.ledger.submit(submission)
        return self.ledger.view(row)

    def _check_room(self) -> None:
        workers = max(self._workers, sum(len(ids) for ids in self.desk.workers().values()))
        room = max(_QUEUE_MIN, workers * _QUEUE_PER_WORKER)
        if self._store.count_queued() >= room:
            raise QueueFull(f"{room} jobs wait already; try again later", retry_after_s=_RETRY_AFTER_S)

    async def status(self, job_id: str, ttl_ms: int | None = None) -> JobView:
        """The job now; `ttl_ms` gives it another lifetime, counted from its submission."""
        row = self.ledger.find(job_id)
        if ttl_ms is not None:
            self._store.update(job_id, ttl_ms=ttl_ms, expires_at=row.created_at + ttl_ms / 1000)
        return self.ledger.view(row)

    async def wait(self, job_id: str, timeout_s: float) -> JobView:
        """The job once it has ended, or as it stands after `timeout_s`."""
        row = await self._until(job_id, timeout_s, lambda row: row.status in ENDED)
        return self.ledger.view(row)

    async def stream(self, job_id: str, start: int | None, wait_s: float) -> StreamView:
        """Pieces from number `start` on, or those that nobody has read; waits while there are none."""

        def worth_answering(row: JobRow) -> bool:
            first = row.next_unread if start is None else start
            return row.status in ENDED or next(iter(self._store.pieces(row.id, first)), None) is not None

        return self.ledger.read(await self._until(job_id, wait_s, worth_answering), start)

    async def events(self, job_id: str, start: int, wait_s: float) -> EventsView:
        """Progress and pieces from event `start` on, as often as you like; waits while there are none."""

        def worth_answering(row: JobRow) -> bool:
            return row.status in ENDED or next(iter(self._store.events(row.id, start)), None) is not None

        return self.ledger.replay(await self._until(job_id, wait_s, worth_answering), start)

    async def _until(self, job_id: str, timeout_s: float, enough: Callable[[JobRow], bool]) -> JobRow:
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout_s
        while True:
            row = self.ledger.find(job_id)
            if enough(row) or loop.time() >= until or self.bell.closed:
                return row
            await self.bell.wait(f"job:{job_id}", until - loop.time())

    async def cancel(self, job_id: str) -> JobView:
        """Stop the job; the answer's status says whether that was still possible."""
        row = self.ledger.find(job_id)
        if row.status not in ENDED:
            self.ledger.end(row, "CANCELLED")
            if row.worker is not None:
                self.desk.stop(row.worker, job_id)
        return self.ledger.view(self.ledger.find(job_id))

    async def retry(self, job_id: str) -> JobView:
        """Queue a job that FAILED or TIMED_OUT again."""
        self.ledger.retry(self.ledger.find(job_id))
        return self.ledger.view(self.ledger.find(job_id))

    async def purge(self) -> int:
        """Remove the jobs that nobody has taken."""
        queued = self._store.queued()
        for row in queued:
            self.ledger.delete(row)
        return len(queued)

    async def health(self) -> dict[str, Any]:
        """Counts of jobs and workers by state."""
        counts = self._store.counts()
        jobs = {
            "completed": counts.get("COMPLETED", 0),
            "failed": counts.get("FAILED", 0) + counts.get("TIMED_OUT", 0),
            "inProgress": counts.get("IN_PROGRESS", 0),
            "inQueue": counts.get("IN_QUEUE", 0),
            "retried": self._store.retried(),
        }
        return {"jobs": jobs, "workers": self._worker_counts(), **self._reasons()}

    async def metrics(self) -> dict[str, Any]:
        """Workers by state, and the ids of the ready ones."""
        states = self.desk.workers()
        return {
            "workers": self._worker_counts(),
            "readyWorkers": states["idle"] + states["running"],
            **self._reasons(),
        }

    def _worker_counts(self) -> dict[str, int]:
        counts = {state: len(ids) for state, ids in self.desk.workers().items()}
        return {**counts, "ready": counts["idle"], "throttled": 0}

    def _reasons(self) -> dict[str, Any]:
        reasons = self.desk.unhealthy()
        return {"unhealthy": reasons} if reasons and not self._strict else {}

    async def file(self, job_id: str, name: str) -> Path:
        """A result that the job's worker stored."""
        path = self.files / self.ledger.find(job_id).id / name
        if Path(name).name != name or not path.is_file():
            raise NotFound(f"the job has no file `{name[:64]}`")
        return path
