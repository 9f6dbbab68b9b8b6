"""The life of a job: queued, taken, ended, forgotten."""

import json
import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from platforms.local.bell import Bell
from platforms.local.store import JobRow, Store
from shared.errors import Conflict, InvalidInput, NotFound
from shared.job import Clock
from shared.jobs.backend import ENDED, EventKind, EventsView, JobView, StreamView, Submission

Ended = Literal["COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"]

DAY_S = 86_400
KEPT_S = 7 * DAY_S
STRICT_KEPT_S = 30 * 60
STRICT_KEPT_SYNC_S = 60
WEBHOOK_DELAYS_S = (5.0, 15.0)
MOST_EVENTS = 1000  # progress of a job that can be told again
_STREAM_ANSWER_BYTES = 16 * 2**20


@dataclass
class Ledger:
    """The only writer of a job's status; rings `job:{id}` at each change, and `on_queue` when one can be taken."""

    store: Store
    bell: Bell
    clock: Clock
    files: Path
    strict: bool = False
    on_queue: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        self._position = self.store.last_position()

    def find(self, job_id: str) -> JobRow:
        """A job that has not expired; NotFound otherwise."""
        row = self.store.get(job_id)
        if row is None or row.expires_at <= self.clock():
            raise NotFound(f"no job `{job_id[:64]}` here; it may have expired")
        return row

    def view(self, row: JobRow) -> JobView:
        """The job as its client sees it."""
        running = row.status == "IN_PROGRESS"
        output = self.store.payload(row.id, "progress" if running else "output")
        if output is None and row.status in ENDED:
            output = self.store.payload(row.id, "progress")  # of one that kept what its steps had made
        return JobView(
            id=row.id,
            status=row.status,
            output=output,
            error=None if row.error is None else json.loads(row.error),
            delay_ms=None if row.status == "IN_QUEUE" else _ms(row.queued_at, row.taken_at),
            execution_ms=_ms(row.taken_at, row.ended_at),
            worker_id=row.worker if row.status in ENDED or running else None,
            retries=row.retries,
        )

    def known(self, submission: Submission) -> JobRow | None:
        """The job that the submission's idempotency key names already; Conflict when its request was another."""
        if submission.idempotency_key is None:
            return None
        row = self.store.by_idempotency_key(submission.idempotency_key)
        if row is not None and row.expires_at <= self.clock():
            self.delete(row)
            return None
        if row is not None and row.request_sha256 != submission.digest():
            raise Conflict("Idempotency-Key: already used for another request; use a new key")
        return row

    def submit(self, submission: Submission) -> JobRow:
        """Queue a new job."""
        now = self.clock()
        row = JobRow(
            id=f"{'sync-' if submission.sync else ''}{uuid.uuid4()}-l1",
            position=self._next_position(),
            status="IN_QUEUE",
            sync=int(submission.sync),
            created_at=now,
            queued_at=now,
            expires_at=now + submission.policy.ttl_ms / 1000,
            ttl_ms=submission.policy.ttl_ms,
            execution_timeout_ms=submission.policy.execution_timeout_ms,
            s3_config=json.dumps(submission.s3_config) if submission.s3_config else None,
            webhook=submission.webhook,
            idempotency_key=submission.idempotency_key,
            request_sha256=submission.digest(),
        )
        self.store.insert(row, json.dumps(submission.input).encode())
        self.on_queue()
        return row

    def _next_position(self) -> int:
        self._position += 1
        return self._position

    def take(self, row: JobRow, worker: str) -> None:
        """Give the job to a worker; what a run before has yielded goes."""
        taken = {"status": "IN_PROGRESS", "worker": worker, "taken_at": self.clock()}
        with self.store.transaction():
            if row.next_event > row.first_event:
                self.store.drop_events(row.id)
            self.store.update(row.id, **taken, started=0, unnamed_pings=0, first_event=row.next_event)
        self.bell.ring(f"job:{row.id}")

    def take_again(self, row: JobRow) -> None:
        """Leave a queued job to the worker that still runs it."""
        self.store.update(row.id, status="IN_PROGRESS", unnamed_pings=0)

    def requeue(self, row: JobRow, **changes: int) -> None:
        """Put a job back; it keeps its position, and so comes before all that came after it."""
        with self.store.transaction():
            self.store.update(row.id, status="IN_QUEUE", started=0, unnamed_pings=0, **changes)
            self.store.drop(row.id, "progress")
        self.bell.ring(f"job:{row.id}")
        self.on_queue()

    def progress(self, row: JobRow, json_text: bytes) -> None:
        """Keep the last progress, and note that the job has started, unless it says that it waits for the device."""
        started = row.started or int(not _waits(json_text))
        with self.store.transaction():
            self.store.put(row.id, "progress", json_text, row.next_event)
            self.store.add_told(row.id, row.next_event, _without_preview(json_text), MOST_EVENTS)
            self.store.update(row.id, started=started, next_event=row.next_event + 1)
        self.bell.ring(f"job:{row.id}")

    def piece(self, row: JobRow, json_text: bytes) -> None:
        """Add a piece to the stream."""
        with self.store.transaction():
            self.store.add_piece(row.id, row.next_event, json_text)
            self.store.update(row.id, started=1, next_event=row.next_event + 1)
        self.bell.ring(f"job:{row.id}")

    def end(self, row: JobRow, status: Ended, output: bytes | None = None, error: str | None = None) -> None:
        """Record how the job ended, once."""
        now = self.clock()
        with self.store.transaction():
            if status == "COMPLETED" or not _keeps(self.store.payload(row.id, "progress")):
                self.store.drop(row.id, "progress")
            if output is not None:
                self.store.put(row.id, "output", output, row.next_event)
            self.store.update(
                row.id,
                status=status,
                ended_at=now,
                expires_at=now + self._kept_s(row),
                error=None if error is None else json.dumps(error),
                next_event=row.next_event + 1,
                webhook_due_at=now if row.webhook else None,
            )
        self.bell.ring(f"job:{row.id}")
        self.on_queue()

    def _kept_s(self, row: JobRow) -> float:
        if not self.strict:
            return KEPT_S
        return STRICT_KEPT_SYNC_S if row.sync else STRICT_KEPT_S

    def retry(self, row: JobRow) -> None:
        """Queue an ended job again, behind the others; its previous output goes."""
        if row.status not in ("FAILED", "TIMED_OUT"):
            raise InvalidInput(f"retry: the job is {row.status}; only FAILED and TIMED_OUT jobs can be retried")
        now = self.clock()
        with self.store.transaction():
            self.store.drop(row.id, "output", "progress")
            self.store.drop_events(row.id)
            self.store.update(
                row.id,
                status="IN_QUEUE",
                position=self._next_position(),
                queued_at=now,
                expires_at=now + row.ttl_ms / 1000,
                worker=None,
                taken_at=None,
                ended_at=None,
                error=None,
                retries=0,
                losses=0,
                started=0,
                next_unread=row.next_event,
                webhook_tries=0,
                webhook_due_at=None,
            )
        self._drop_files(row)
        self.on_queue()

    def delete(self, row: JobRow) -> None:
        """Forget the job and its files."""
        self.store.delete(row.id)
        self._drop_files(row)
        self.bell.ring(f"job:{row.id}")

    def _drop_files(self, row: JobRow) -> None:
        shutil.rmtree(self.files / row.id, ignore_errors=True)

    def read(self, row: JobRow, start: int | None) -> StreamView:
        """Pieces from event `start` on, or those nobody has read, which are then read.

        A long stream comes in several answers; the job looks unfinished until the last one.
        """
        pieces: list[tuple[int, bytes]] = []
        size = 0
        following = row.next_event
        for n, json_text in self.store.pieces(row.id, row.next_unread if start is None else start):
            if size > _STREAM_ANSWER_BYTES:
                following = n
                break
            pieces.append((n, bytes(json_text)))
            size += len(json_text)
        if start is None and pieces:
            self.store.update(row.id, next_unread=following)
        status = "IN_PROGRESS" if following < row.next_event else row.status
        return StreamView(status, pieces, following, row.first_event)

    def replay(self, row: JobRow, start: int) -> EventsView:
        """What the job has told and yielded from event `start` on; a long answer comes in several parts."""
        events: list[tuple[int, EventKind, bytes]] = []
        size, following = 0, row.next_event
        for n, kind, json_text in self.store.events(row.id, start):
            if size > _STREAM_ANSWER_BYTES:
                following = n
                break
            events.append((n, kind, bytes(json_text)))
            size += len(json_text)
        status = "IN_PROGRESS" if following < row.next_event else row.status
        return EventsView(status, events, following, row.first_event)

    def webhooks_due(self) -> list[JobRow]:
        """Ended jobs whose webhook is to be called now."""
        return self.store.webhooks_due(self.clock())

    def webhook_body(self, row: JobRow) -> bytes:
        """What the job's webhook is sent."""
        job_input = self.store.payload(row.id, "input") or b"null"
        return self.view(row).to_json({"input": job_input, "webhook": json.dumps(row.webhook).encode()})

    def webhook_called(self, row: JobRow, *, delivered: bool) -> None:
        """Note the outcome of a call: done, or due again a while later, or given up."""
        again = not delivered and row.webhook_tries < len(WEBHOOK_DELAYS_S)
        due_at = self.clock() + WEBHOOK_DELAYS_S[row.webhook_tries] if again else None
        self.store.update(row.id, webhook_tries=row.webhook_tries + 1, webhook_due_at=due_at)


def _ms(start: float | None, end: float | None) -> int | None:
    return None if start is None or end is None else max(0, round((end - start) * 1000))


def _keeps(progress: bytes | None) -> bool:
    """Whether it says where results are that stay, whatever becomes of the job."""
    said = json.loads(progress) if progress else None
    return isinstance(said, dict) and bool(said.get("kept"))


def _without_preview(progress: bytes) -> bytes:
    """What is kept to be told again: a thousand small pictures of one job would fill the disk."""
    said = json.loads(progress)
    if not isinstance(said, dict) or "preview" not in said:
        return progress
    return json.dumps({name: value for name, value in said.items() if name != "preview"}).encode()


def _waits(progress: bytes) -> bool:
    said = json.loads(progress)
    return isinstance(said, dict) and said.get("stage") in ("queued", "downloading")
