"""What a worker's SDK posts about a job."""

import json
from dataclasses import dataclass
from typing import Any

from shared.errors import Internal, InvalidInput
from shared.jobs.wire import parse_json


@dataclass(frozen=True)
class Report:
    """A progress, or the end of a job; JSON text where it is the job's own."""

    output: bytes | None = None
    error: str | None = None
    progress: bytes | None = None
    stop_pod: bool = False


def read_report(body: bytes) -> Report:
    """The report in a posted body, whatever its Content-Type says; one that is no JSON is the job's failure."""
    try:
        posted = parse_json(body)
    except InvalidInput:
        posted = None
    if not isinstance(posted, dict):
        broken = Internal("the worker's answer is not JSON; a result may hold NaN or Infinity")
        return Report(error=str(broken))
    output = _text(posted["output"]) if "output" in posted else None
    if posted.get("status") == "IN_PROGRESS":
        return Report(progress=output or b"null")
    error = posted.get("error") or None
    return Report(
        output=output,
        error=error if error is None or isinstance(error, str) else json.dumps(error),
        stop_pod=bool(posted.get("stopPod")),
    )


def _text(value: Any) -> bytes:
    return json.dumps(value).encode()
