"""What went wrong, as the endpoint says it, and what the visitor can do about it."""

import json
from typing import Any

BY_STATUS = {400: "invalid_input", 401: "unauthorized", 403: "unauthorized", 404: "not_found", 429: "queue_full"}
TITLES = {
    "invalid_input": "The endpoint refused the input",
    "unauthorized": "The endpoint refused the key",
    "not_found": "Not found",
    "media_too_large": "The file is too large",
    "result_too_large": "The result is too large",
    "queue_full": "The queue is full",
    "delivery_failed": "The result could not be fetched",
    "model_unavailable": "The model is not available",
    "out_of_memory": "The GPU ran out of memory",
    "insufficient_capacity": "No worker can take the job",
    "unreachable": "The endpoint does not answer",
    "deadline_exceeded": "The job took too long",
    "cancelled": "Cancelled",
}
HINTS = {
    "invalid_input": "Change what the message names, and submit again.",
    "unauthorized": "The owner of this page has to check the secret that holds the endpoint's key.",
    "not_found": "The job may have expired; submit again. If it keeps happening, the owner has to check config.yml.",
    "media_too_large": "Choose a smaller file.",
    "result_too_large": "Ask for less: a smaller size, or fewer pictures or frames.",
    "queue_full": "Wait a little, and submit again.",
    "delivery_failed": "Retry.",
    "model_unavailable": "Retry in a minute; name another model under Advanced if it stays away.",
    "out_of_memory": "Ask for less: a smaller size, or fewer pictures or frames.",
    "insufficient_capacity": "Retry in a minute.",
    "unreachable": "Is it running? Retry in a minute; the owner of this page can check its base_url.",
    "deadline_exceeded": "Ask for less: fewer steps, or a smaller size.",
    "cancelled": "Nothing is running any more.",
    "internal": "Retry. If it fails again, give the endpoint's owner the message above.",
}


class Failure(Exception):
    """A request or a job failed; `passing` says that the same request may work in a moment.

    `ended` is the job's status where the job itself ended so, else empty.
    """

    def __init__(self, code: str, message: str, *, passing: bool = False, retry_after_s: float | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.passing = passing
        self.retry_after_s = retry_after_s
        self.ended = ""

    @property
    def title(self) -> str:
        """In a few words."""
        return TITLES.get(self.code, "The job failed")

    @property
    def hint(self) -> str:
        """What to do about it."""
        if self.retry_after_s:
            return f"Submit again in {self.retry_after_s:.0f} s."
        return HINTS.get(self.code, HINTS["internal"])


def of_job(job: dict[str, Any]) -> Failure:
    """Why a job ended without a result, by the body of its `/status`."""
    failure = _of_job(job)
    failure.ended = job["status"]
    return failure


def _of_job(job: dict[str, Any]) -> Failure:
    if job["status"] == "CANCELLED":
        return Failure("cancelled", "The job was cancelled on the endpoint.")
    failure = _of_text(_text(job.get("error")), "internal")
    if job["status"] == "TIMED_OUT":
        return Failure("deadline_exceeded", failure.message or "The job ran longer than it may.")
    return failure if failure.message else Failure("internal", "The job failed without saying why.")


def of_response(status: int, body: Any, retry_after: str | None) -> Failure:
    """Why a request was refused. RunPod's own texts are kept."""
    text = body.get("error") if isinstance(body, dict) else None
    otherwise = BY_STATUS.get(status, "internal")
    failure = _of_text(text if isinstance(text, str) else f"It answered HTTP {status}.", otherwise)
    failure.passing = status >= 500
    failure.retry_after_s = float(retry_after) if retry_after and retry_after.isdigit() else None
    return failure


def _of_text(text: str, otherwise: str) -> Failure:
    code, separator, message = text.partition(": ")
    return Failure(code, message) if separator and code in HINTS else Failure(otherwise, text)


def _text(error: Any) -> str:
    """A job's error; RunPod's SDK sends an exception as JSON with its traceback, of which the message is enough."""
    text = error if isinstance(error, str) else json.dumps(error) if error else ""
    try:
        raised = json.loads(text)
    except ValueError:
        return text
    return str(raised.get("error_message") or text) if isinstance(raised, dict) else text
