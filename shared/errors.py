"""Everything that a job can end in, other than its result.

Ending                          code                   HTTP  retryable
├── JobError                    (base of what a handler may raise or swallow)
│   ├── InvalidInput            invalid_input          422
│   │   ├── Conflict            invalid_input          409
│   │   └── UnknownModel        invalid_input          400
│   ├── Unauthorized            unauthorized           401
│   ├── NotFound                not_found              404
│   ├── RequestTimeout          request_timeout        408   yes
│   ├── MediaTooLarge           media_too_large        413
│   ├── ResultTooLarge          result_too_large       413
│   ├── QueueFull               queue_full             429   yes
│   ├── NotSupported            not_supported          501
│   ├── Internal                internal               500
│   │   └── DeviceLost          internal               500   yes
│   ├── DeliveryFailed          delivery_failed        502   yes
│   ├── ModelUnavailable        model_unavailable      503   yes
│   ├── OutOfMemory             out_of_memory          503   yes
│   └── InsufficientCapacity    insufficient_capacity  503   yes
└── Stopped                     (not an Exception: `except Exception` in a handler cannot swallow it)
    ├── Cancelled               cancelled              499
    └── DeadlineExceeded        deadline_exceeded      504

A message says what was wrong and what to do about it. It reaches the caller as it is: no paths, no secrets.
"""

from typing import Any, ClassVar, Literal, TypeVar

AnyError = TypeVar("AnyError", bound=BaseException)

Ruin = Literal["out_of_memory", "device_lost"]  # how the device itself can end a piece of work


class Ending:
    """What every ending carries: a code for programs, a message for people, an HTTP status."""

    code: ClassVar[str] = "internal"
    http_status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False

    message: str
    detail: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"

    def as_dict(self) -> dict[str, Any]:
        """The ending as JSON, for REST's `detail` and the endpoint's `detail`."""
        return {"code": self.code, "msg": self.message, "retryable": self.retryable, **self.detail}


class JobError(Ending, Exception):
    """A job failed; `detail` holds more for programs, such as the fields that were wrong."""

    def __init__(self, message: str, **detail: Any) -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail


class InvalidInput(JobError):
    """The request cannot be run as it is."""

    code = "invalid_input"
    http_status = 422


class Conflict(InvalidInput):
    """The Idempotency-Key was used for another request."""

    http_status = 409


class UnknownModel(InvalidInput):
    """The worker has no such model."""

    http_status = 400


class Unauthorized(JobError):
    """The key is missing or wrong."""

    code = "unauthorized"
    http_status = 401


class NotFound(JobError):
    """No such job, endpoint, pipeline or file."""

    code = "not_found"
    http_status = 404


class RequestTimeout(JobError):
    """The request did not come whole, or came too slowly."""

    code = "request_timeout"
    http_status = 408
    retryable = True


class MediaTooLarge(JobError):
    """An input is larger than this worker reads."""

    code = "media_too_large"
    http_status = 413


class ResultTooLarge(JobError):
    """The result is larger than the platform carries, and there is nowhere else to put it."""

    code = "result_too_large"
    http_status = 413


class QueueFull(JobError):
    """No more jobs are accepted for now."""

    code = "queue_full"
    http_status = 429
    retryable = True


class NotSupported(JobError):
    """The platform that keeps the jobs cannot do this."""

    code = "not_supported"
    http_status = 501


class Internal(JobError):
    """Our fault; the message carries an id that finds the traceback in the log."""


class DeviceLost(Internal):
    """The device cannot be used by this process any more."""

    retryable = True


class DeliveryFailed(JobError):
    """The result was made, and the place that the job named for it refused it."""

    code = "delivery_failed"
    http_status = 502
    retryable = True


class ModelUnavailable(JobError):
    """The model is not on the volume and cannot be fetched."""

    code = "model_unavailable"
    http_status = 503
    retryable = True


class OutOfMemory(JobError):
    """The job did not fit into the device's memory, with everything else freed."""

    code = "out_of_memory"
    http_status = 503
    retryable = True


class InsufficientCapacity(JobError):
    """No worker can take the job."""

    code = "insufficient_capacity"
    http_status = 503
    retryable = True


class Stopped(Ending, BaseException):
    """The job was told to stop; raised by `ctx.step`, and not to be caught by handlers."""

    def __init__(self, message: str, **detail: Any) -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail


class Cancelled(Stopped):
    """Somebody asked for the job to stop."""

    code = "cancelled"
    http_status = 499


class DeadlineExceeded(Stopped):
    """The job ran longer than it may."""

    code = "deadline_exceeded"
    http_status = 504


ENDINGS = (JobError, Stopped)  # for `except`: all that a job can end in


def forget_frames(error: AnyError) -> AnyError:
    """The error without the stack frames that it passed: their variables are pictures, latents and whole models."""
    passed: set[BaseException] = set()  # an error that was raised from itself has no end
    seen: BaseException | None = error
    while seen is not None and seen not in passed:
        passed.add(seen)
        seen.__traceback__ = None
        seen = seen.__cause__ or seen.__context__
    return error


def _leaves(root: type[Ending]) -> list[type[Ending]]:
    return [root, *(leaf for child in root.__subclasses__() for leaf in _leaves(child))]


def http_status_of(code: str) -> int:
    """The HTTP status of an error code as it appears on the wire; 500 for a code of somebody else's."""
    return next((e.http_status for e in _leaves(Ending) if e.code == code), 500)
