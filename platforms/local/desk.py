"""The worker's side of the queue: who takes, what comes back, who is lost."""

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from platforms.local.bell import Bell
from platforms.local.ledger import Ledger
from platforms.local.polls import Poll, Polls
from platforms.local.report import Report, read_report
from platforms.local.roster import Roster, Worker
from platforms.local.store import JobRow, Store
from shared.errors import (
    DeadlineExceeded,
    DeliveryFailed,
    InsufficientCapacity,
    Internal,
    InvalidInput,
    MediaTooLarge,
)
from shared.job import Clock
from shared.jobs.wire import MIB

_PINGS_WITHOUT_JOB = 2
_UNCOUNTED_LOSSES = 3
STRICT_RESULT_BYTES = 10_000_000
STRICT_SYNC_RESULT_BYTES = 20_000_000
STRICT_PIECE_BYTES = 1_000_000
RESULT_BYTES = 256 * MIB


@dataclass
class Desk:
    """What the workers' routes call.

    `on_ready` hears of each worker's first take, `on_stop_pod` of a worker that asks to be started anew, `on_done` of
    one that has ended a job.
    """

    store: Store
    ledger: Ledger
    bell: Bell
    roster: Roster
    clock: Clock
    strict: bool = False
    on_ready: Callable[[str], None] = lambda worker_id: None
    on_stop_pod: Callable[[str], None] = lambda worker_id: None
    on_done: Callable[[str], None] = lambda worker_id: None

    def __post_init__(self) -> None:
        self.polls = Polls(self.store, self.ledger)
        self.ledger.on_queue = self.polls.hand_out
        for row in self.store.in_progress():  # of before a restart: their workers have until now + 3 pings
            self.roster.see(row.worker or "", self.clock())

    def open_poll(self, worker_id: str, size: int) -> Poll | None:
        """Wait for jobs; None for a worker that gets no more."""
        worker = self.roster.see(worker_id, self.clock())
        if worker is None or worker.dismissed or self.bell.closed:
            return None
        if not worker.ready:
            worker.ready = True
            self.on_ready(worker_id)
        return self.polls.open(worker, size)

    def close_poll(self, poll: Poll) -> list[JobRow]:
        """Stop waiting, and take what was handed out."""
        self.roster.see(poll.worker.id, self.clock())
        return self.polls.close(poll)

    def job_json(self, row: JobRow) -> bytes:
        """A job as the worker is handed it."""
        members: dict[str, Any] = {"id": row.id}
        if row.s3_config:
            members["s3Config"] = json.loads(row.s3_config)
        if row.webhook:
            members["webhook"] = row.webhook
        if not self.strict:  # RunPod tells its workers nothing of the policy
            members["policy"] = {"executionTimeout": row.execution_timeout_ms}
        job_input = self.store.payload(row.id, "input") or b"{}"
        return json.dumps(members).encode()[:-1] + b',"input":' + job_input + b"}"

    def give_back(self, rows: Iterable[JobRow]) -> None:
        """Put jobs back as if they had never been taken."""
        for row in rows:
            self.ledger.requeue(row)

    def dismiss(self, worker_id: str) -> None:
        """Give the worker nothing more, and let its polls go."""
        if worker := self.roster.see(worker_id, self.clock()):
            worker.dismissed = True
            self.polls.release(worker)
            self.bell.ring(f"stop:{worker_id}")

    def ping(self, worker_id: str, named: set[str], unhealthy: str | None = None) -> None:
        """A heartbeat that names the jobs which the worker knows of."""
        worker = self.roster.see(worker_id, self.clock())
        if worker is None:
            return
        worker.unhealthy = unhealthy
        holds = self.store.in_progress(worker_id)
        for row in holds:
            if row.id in named:
                if row.unnamed_pings:
                    self.store.update(row.id, unnamed_pings=0)
            elif row.unnamed_pings + 1 >= _PINGS_WITHOUT_JOB:
                worker.unsure.add(row.id)
                self._lose(row)
            else:
                self.store.update(row.id, unnamed_pings=row.unnamed_pings + 1)
        for job_id in named - {row.id for row in holds}:
            self._settle(worker, self.store.get(job_id), job_id)
        worker.forget_unnamed(named | {row.id for row in holds})
        self.polls.hand_out()

    def _settle(self, worker: Worker, row: JobRow | None, job_id: str) -> None:
        """A worker names a job that is not its own now: it keeps one that nobody else has taken, and stops others."""
        if row is not None and row.status == "IN_QUEUE" and row.worker == worker.id:
            worker.unsure.discard(job_id)
            self.ledger.take_again(row)
        elif row is None or row.worker != worker.id or row.status in ("CANCELLED", "TIMED_OUT"):
            self.stop(worker.id, job_id)

    def stop(self, worker_id: str, job_id: str) -> None:
        """Tell a worker to stop a job, until its pings no longer name it."""
        if worker := self.roster.get(worker_id):
            worker.stop(job_id)
            self.bell.ring(f"stop:{worker_id}")

    async def stops(self, worker_id: str, hold_s: float) -> list[str]:
        """Jobs that the worker must stop; waits while there are none."""
        worker = self.roster.see(worker_id, self.clock())
        until = time.monotonic() + hold_s
        while worker is not None:
            now = time.monotonic()
            if due := worker.stops_due(now):
                return due
            if now >= until or worker.dismissed or self.bell.closed:
                break
            await self.bell.wait(f"stop:{worker_id}", worker.next_stop_in(now, until - now))
        return []

    def _owned(self, worker_id: str, job_id: str) -> JobRow | None:
        """The job, if what this worker says of it still counts."""
        row = self.store.get(job_id)
        alive = self.roster.see(worker_id, self.clock()) is not None
        return row if row is not None and alive and row.worker == worker_id else None

    def done(self, worker_id: str, job_id: str, report: Report) -> None:
        """A result, an error or a progress; ignored when the job has ended or belongs to somebody else."""
        row = self._owned(worker_id, job_id)
        if row is None or row.status not in ("IN_PROGRESS", "IN_QUEUE"):
            return
        if report.progress is not None:
            if row.status == "IN_PROGRESS":
                self.ledger.progress(row, report.progress)
            return
        try:
            self.ledger.end(row, "COMPLETED" if report.error is None else "FAILED", report.output, report.error)
        except InsufficientCapacity as exc:  # without an end the job would count as lost, and run again
            unkept = DeliveryFailed(f"the result was made, and could not be kept: {exc.message}")
            self.ledger.end(row, "FAILED", error=str(unkept))
        self.on_done(worker_id)
        if report.stop_pod:
            self.on_stop_pod(worker_id)

    def result_limit(self, job_id: str) -> int:
        """How many bytes of result are read for a job."""
        if not self.strict:
            return RESULT_BYTES
        return STRICT_SYNC_RESULT_BYTES if job_id.startswith("sync-") else STRICT_RESULT_BYTES

    def refuse_result(self, worker_id: str, job_id: str, exc: MediaTooLarge) -> None:
        """A result was too large to be read: on RunPod the job completes without it, here it fails and says so."""
        report = Report() if self.strict else Report(error=f"result_too_large: {exc.message}")
        self.done(worker_id, job_id, report)

    def piece(self, worker_id: str, job_id: str, body: bytes) -> None:
        """A piece of a stream."""
        if self.strict and len(body) > STRICT_PIECE_BYTES:
            raise InvalidInput("stream piece: larger than 1 MB")
        row = self._owned(worker_id, job_id)
        output = read_report(body).output
        runs = row is not None and row.status in ("IN_PROGRESS", "IN_QUEUE")  # queued: thought lost, and not so
        if row is not None and runs and output is not None:
            self.ledger.piece(row, output)

    def _lose(self, row: JobRow) -> None:
        """A worker no longer has the job. RunPod counts every loss, we those of jobs that had started.

        But a job that is among the lost again and again may be what ends its workers, before they can say that it
        started.
        """
        if not row.started and not self.strict and row.losses < _UNCOUNTED_LOSSES:
            self.ledger.requeue(row, losses=row.losses + 1)
        elif row.retries == 0:
            self.ledger.requeue(row, retries=1)
        elif self.strict:
            self.ledger.end(row, "FAILED", error="job timed out after 1 retries")
        else:
            lost = Internal("worker lost twice while it ran this job; the job may be what ends it")
            self.ledger.end(row, "FAILED", error=str(lost))

    def worker_lost(self, worker_id: str) -> None:
        """The worker's process has ended; when it was told to, that is no fault of its jobs."""
        worker = self.roster.get(worker_id)
        told_to = worker is not None and worker.dismissed
        self.dismiss(worker_id)
        self.roster.bury(worker_id)
        lost = self.store.in_progress(worker_id)
        if told_to:
            self.give_back(lost)
        else:
            for row in lost:
                self._lose(row)

    def tick(self) -> None:
        """End what has run or lived too long, and give the jobs of silent workers to others."""
        now = self.clock()
        for row in self.store.expired(now):
            if row.status in ("IN_PROGRESS", "IN_QUEUE"):
                self.stop(row.worker or "", row.id)
            self.ledger.delete(row)
        for row in self.store.in_progress():
            if row.taken_at is not None and now - row.taken_at > row.execution_timeout_ms / 1000:
                late = DeadlineExceeded(
                    f"the job ran longer than its {row.execution_timeout_ms} ms (executionTimeout)"
                )
                self.ledger.end(row, "TIMED_OUT", error=str(late))
                self.stop(row.worker or "", row.id)
        for worker in self.roster.silent(now):
            for row in self.store.in_progress(worker.id):
                worker.unsure.add(row.id)
                self._lose(row)

    def workers(self) -> dict[str, list[str]]:
        """Ids of the workers that are heard of, by state."""
        busy = {row.worker for row in self.store.in_progress()}
        states: dict[str, list[str]] = {name: [] for name in ("idle", "initializing", "running", "unhealthy")}
        for worker in self.roster.alive(self.clock()):
            state = "running" if worker.id in busy else "idle" if worker.ready else "initializing"
            states["unhealthy" if worker.unhealthy is not None else state].append(worker.id)
        return states

    def unhealthy(self) -> dict[str, Any]:
        """Why each unhealthy worker is."""
        return {w.id: w.unhealthy for w in self.roster.alive(self.clock()) if w.unhealthy is not None}
