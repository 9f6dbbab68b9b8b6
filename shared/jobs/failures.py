"""Turns what an endpoint says of a failure back into the error that it was."""

import ast
import json
from typing import Any

from shared import openai
from shared.errors import (
    Cancelled,
    Conflict,
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
    error = job.get("error")
    if isinstance(error, str) and (body := openai_error(error)):
        return _failure_of_openai(body["error"])
    text = _exception_text(error)
    if job["status"] == "TIMED_OUT":
        return DeadlineExceeded(failure(text).message or f"job {job_id} ran longer than it may")
    return failure(text or f"job {job_id} failed without saying why")


def openai_error(text: str | None) -> dict[str, Any] | None:
    """The body `{"error": {"message", ...}}` in a job's error; None when it holds none.

    The SDK writes an error that a generator yields as Python would, not as JSON.
    """
    for read in (json.loads, ast.literal_eval):
        try:
            value = read(text or "")
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        given = value.get("error", value) if isinstance(value, dict) else None
        if isinstance(given, dict) and isinstance(given.get("message"), str):
            return {"error": given}
    return None


def failure_of_response(status: int, body: bytes) -> JobError | Stopped:
    """The error of an HTTP answer; RunPod's own texts are kept after the status."""
    try:
        answer = json.loads(body)
    except ValueError:
        answer = None
    text = answer.get("error") if isinstance(answer, dict) else None
    if status == 409:  # its code is that of any wrong input
        return Conflict(text.removeprefix("invalid_input: ") if isinstance(text, str) else "HTTP 409")
    otherwise = _BY_STATUS.get(status, Internal)
    return failure(text if isinstance(text, str) else f"the endpoint answered HTTP {status}", otherwise)


def _failure_of_openai(error: dict[str, Any]) -> JobError | Stopped:
    kind = _BY_CODE.get(str(error.get("code"))) or _BY_STATUS.get(openai.status_of({"error": error}), Internal)
    return kind(error["message"])


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
