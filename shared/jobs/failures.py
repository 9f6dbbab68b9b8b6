"""Turns what an endpoint says of a failure back into the error that it was."""

import json
from typing import Any

from shared.errors import (
    Cancelled,
    DeadlineExceeded,
    Internal,
    InvalidInput,
    JobError,
    NotFound,
    QueueFull,
    Stopped,
    Unauthorized,
)

_BY_CODE: dict[str, type[JobError | Stopped]] = {
    error.code: error for base in (JobError, Stopped) for error in base.__subclasses__()
}
_BY_STATUS: dict[int, type[JobError]] = {
    400: InvalidInput,
    401: Unauthorized,
    403: Unauthorized,
    404: NotFound,
    409: InvalidInput,
    429: QueueFull,
}


def failure(text: str, otherwise: type[JobError] = Internal, **detail: Any) -> JobError | Stopped:
    """The error of `code: message`; of the class `otherwise` when the code is nobody's here."""
    code, separator, message = text.partition(": ")
    known = _BY_CODE.get(code) if separator else None
    return known(message, **detail) if known else otherwise(text, **detail)


def failure_of_job(job: dict[str, Any]) -> JobError | Stopped:
    """The error of a job that ended, by the body of its `/status`."""
    job_id = str(job.get("id"))
    if job["status"] == "CANCELLED":
        return Cancelled(f"job {job_id} was cancelled")
    text = _exception_text(job.get("error"))
    if job["status"] == "TIMED_OUT":
        return DeadlineExceeded(failure(text).message or f"job {job_id} ran longer than it may")
    return failure(text or f"job {job_id} failed without saying why")


def failure_of_response(status: int, body: bytes) -> JobError | Stopped:
    """The error of an HTTP answer; RunPod's own texts are kept after the status."""
    try:
        answer = json.loads(body)
    except ValueError:
        answer = None
    text = answer.get("error") if isinstance(answer, dict) else None
    otherwise = _BY_STATUS.get(status, Internal)
    return failure(text if isinstance(text, str) else f"the endpoint answered HTTP {status}", otherwise)


def _exception_text(error: Any) -> str:
    """The text of a job's error; the SDK sends a handler's exception as JSON with its traceback."""
    text = error if isinstance(error, str) else json.dumps(error) if error else ""
    try:
        raised = json.loads(text)
    except ValueError:
        return text
    if not isinstance(raised, dict) or "error_message" not in raised:
        return text
    kind = str(raised.get("error_type", "")).removeprefix("<class '").removesuffix("'>")
    return f"{kind}: {raised['error_message']}" if kind else str(raised["error_message"])
