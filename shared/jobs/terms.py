"""What a client of the synchronous routes may say about its job beside the parameters, in headers."""

import math
import re
from dataclasses import dataclass

from fastapi import Request

from shared.errors import InvalidInput

JOB_ID = "X-Job-Id"
TIMEOUT = "X-Job-Timeout"
_AN_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True)
class Terms:
    """`job_id` is the client's own name for the job, by which it can cancel it; `timeout_s` counts on the device."""

    job_id: str | None = None
    timeout_s: float | None = None


NO_TERMS = Terms()


def terms_of(request: Request) -> Terms:
    """The terms in a request's headers.

    Raises:
        InvalidInput: they cannot be meant.
    """
    job_id, timeout = request.headers.get(JOB_ID), request.headers.get(TIMEOUT)
    if job_id is None and timeout is None:
        return NO_TERMS
    if job_id is not None and not _AN_ID.fullmatch(job_id):
        raise InvalidInput(f"{JOB_ID}: give 1 to 64 letters, digits, - and _")
    return Terms(job_id, None if timeout is None else _seconds(timeout))


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise InvalidInput(f"{TIMEOUT}: give a number of seconds above 0")
    return seconds
