"""One request as the runner sees it: an id, an input, a way to stop it and a way to report."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from shared.errors import Cancelled, DeadlineExceeded

Stage = Literal["queued", "downloading", "loading", "running", "encoding", "delivering"]
Clock = Callable[[], float]


@dataclass(frozen=True)
class Progress:
    """Where a job stands; `preview` is a data URL of at most 64 kB.

    `kept` are results of steps that are done, which stay whatever becomes of the job.
    """

    seq: int
    stage: Stage
    step: int | None = None
    steps: int | None = None
    eta_s: float | None = None
    preview: str | None = None
    kept: list[dict[str, Any]] | None = None

    def as_dict(self) -> dict[str, Any]:
        """The fields that are known, as JSON."""
        return {k: v for k, v in self.__dict__.items() if v is not None}


@dataclass(frozen=True)
class Piece:
    """One piece of a stream: text, or the closing details."""

    value: str | dict[str, Any]


Event = Progress | Piece


class CancelToken:
    """Tells a job to stop, with the reason; safe to use from any thread, as often as you like."""

    def __init__(self) -> None:
        self._is_set = False
        self._callbacks: list[Callable[[], None]] = []
        self._lock = threading.Lock()
        self.reason = ""
        self.cancelled_at: float | None = None

    def cancel(self, reason: str) -> None:
        """Stop the job; only the first reason is kept."""
        with self._lock:
            if self._is_set:
                return
            self.reason = reason
            self.cancelled_at = time.monotonic()
            self._is_set = True
            callbacks = list(self._callbacks)
        for callback in callbacks:
            callback()

    def on_cancel(self, callback: Callable[[], None]) -> None:
        """Call back once when cancelled; at once when it already is."""
        with self._lock:
            if not self._is_set:
                self._callbacks.append(callback)
                return
        callback()

    def forget(self, callback: Callable[[], None]) -> None:
        """Call that one no more, and hold no reference to it."""
        with self._lock:
            if callback in self._callbacks:
                self._callbacks.remove(callback)

    def is_cancelled(self) -> bool:
        """Whether somebody asked for a stop."""
        return self._is_set

    def check(self) -> None:
        """Raise Cancelled when somebody asked for a stop."""
        if self._is_set:
            raise Cancelled(self.reason)


@dataclass
class Job:
    """What an adapter makes of its platform's job.

    `timeout_s` counts from the job's start on the device. `events` is called from the device's thread and must
    return at once. `result_limit` is in bytes of the serialised result; None means that anything fits. With
    `keeps_files` a result holds the files themselves (schemas.Output) where it would hold data URLs. `can_recur` says
    that a queue may hand the job out again by its id, which then is nobody else's.
    """

    id: str
    input: dict[str, Any]
    events: Callable[[Event], None] = lambda event: None
    cancel: CancelToken = field(default_factory=CancelToken)
    timeout_s: float | None = None
    s3_config: dict[str, Any] | None = None
    result_limit: int | None = None
    keeps_files: bool = False
    can_recur: bool = False
    clock: Clock = time.monotonic
    deadline: float | None = None
    on_device_since: float | None = None

    def start_clock(self, default_timeout_s: float) -> None:
        """Set the deadline, now that the device is the job's."""
        limits = [default_timeout_s] + ([self.timeout_s] if self.timeout_s else [])
        self.on_device_since = self.clock()
        self.deadline = self.on_device_since + min(limits)

    def check(self) -> None:
        """Raise Cancelled or DeadlineExceeded when the job must stop."""
        self.cancel.check()
        if self.deadline is not None and self.clock() > self.deadline:
            raise DeadlineExceeded("the job ran longer than it may (JOB_TIMEOUT_S or policy.executionTimeout)")
