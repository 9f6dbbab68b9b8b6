"""What the endpoint's HTTP API asks of whatever keeps the jobs."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

from shared.errors import NotFound

Status = Literal["IN_QUEUE", "IN_PROGRESS", "COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"]
EventKind = Literal["progress", "piece"]
ENDED: frozenset[str] = frozenset({"COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"})


@dataclass(frozen=True)
class Policy:
    """How long a job may run, counted from its take, and live, counted from its submission."""

    execution_timeout_ms: int = 600_000
    ttl_ms: int = 86_400_000


@dataclass(frozen=True)
class Submission:
    """A request that has passed the API's checks."""

    input: dict[str, Any]
    sync: bool = False
    policy: Policy = field(default_factory=Policy)
    webhook: str | None = None
    s3_config: dict[str, Any] | None = None
    idempotency_key: str | None = None

    def digest(self) -> str:
        """What tells this request from others that give the same idempotency key; hexadecimal."""
        policy = self.policy
        request = [self.input, self.webhook, self.s3_config, policy.execution_timeout_ms, policy.ttl_ms]
        return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class JobView:
    """A job as its client sees it; `output` is JSON text, so that large results are never parsed again.

    `output` holds the last progress while the job runs. Times are in milliseconds.
    """

    id: str
    status: Status
    output: bytes | None = None
    error: str | None = None
    delay_ms: int | None = None
    execution_ms: int | None = None
    worker_id: str | None = None
    retries: int = 0

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to the job by itself."""
        return self.status in ENDED

    def to_json(self, more: Mapping[str, bytes] | None = None) -> bytes:
        """The body of `/status`; `more` adds members that are JSON text already."""
        members = {
            "delayTime": self.delay_ms,
            "error": self.error,
            "executionTime": self.execution_ms,
            "id": self.id,
            "retries": self.retries or None,
            "status": self.status,
            "workerId": self.worker_id,
        }
        written = {name: json.dumps(value).encode() for name, value in members.items() if value is not None}
        if self.output is not None:
            written["output"] = self.output
        written.update(more or {})
        return b"{" + b",".join(b'"%s":%s' % (k.encode(), written[k]) for k in sorted(written)) + b"}"


@dataclass(frozen=True)
class StreamView:
    """What a job has yielded since the last look: numbered pieces of JSON text, and where to go on.

    Pieces are those of the job's last run, which numbers from `first` on: whoever has read one below it has read of a
    run whose worker was lost, and the text begins again.
    """

    status: Status
    pieces: list[tuple[int, bytes]]
    next: int
    first: int = 0


@dataclass(frozen=True)
class EventsView:
    """What a job has told and yielded: numbered events of JSON text, and where to go on; `first` as in StreamView.

    Of long jobs only the last progress is kept; pieces are kept all.
    """

    status: Status
    events: list[tuple[int, EventKind, bytes]]
    next: int
    first: int = 0


class Backend(Protocol):
    """Keeps the jobs of one endpoint.

    Methods that take a job id raise NotFound for one that is unknown or has expired.
    """

    async def submit(self, submission: Submission) -> JobView:
        """Queue a job, or find the one that its idempotency key names.

        Raises:
            QueueFull: with `retry_after_s` in the detail.
            Conflict: when the idempotency key belongs to another request.
        """

    async def status(self, job_id: str, ttl_ms: int | None = None) -> JobView:
        """The job now; `ttl_ms` gives it another lifetime, counted from its submission."""

    async def wait(self, job_id: str, timeout_s: float) -> JobView:
        """The job once it has ended, or as it stands after `timeout_s`."""

    async def stream(self, job_id: str, start: int | None, wait_s: float) -> StreamView:
        """Pieces from number `start` on, or those that nobody has read; waits while there are none."""

    async def events(self, job_id: str, start: int, wait_s: float) -> EventsView:
        """Progress and pieces from event `start` on, as often as you like; waits while there are none."""

    async def cancel(self, job_id: str) -> JobView:
        """Stop the job; the answer's status says whether that was still possible."""

    async def retry(self, job_id: str) -> JobView:
        """Queue a job that FAILED or TIMED_OUT again; InvalidInput for any other."""

    async def purge(self) -> int:
        """Remove the jobs that nobody has taken, and say how many."""

    async def health(self) -> dict[str, Any]:
        """Counts of jobs and workers by state, as RunPod's `/health` shows them."""

    async def metrics(self) -> dict[str, Any]:
        """What `/metrics` shows: workers by state and the ids of the ready ones."""

    async def file(self, job_id: str, name: str) -> Path:
        """A result that the job's worker stored beside the queue; NotFound when there is none."""


B = TypeVar("B", bound=Backend)


def find_backend(backends: Mapping[str, B], endpoint: str) -> B:
    """The backend of an endpoint id; NotFound when there is none."""
    if endpoint not in backends:
        raise NotFound(f"no endpoint `{endpoint[:64]}`; there are: {', '.join(backends)}")
    return backends[endpoint]
