"""What a synchronous request is answered: JSON with its files written as joined bytes, or a file alone."""

import json
import secrets
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import pybase64
from fastapi import Response
from starlette.types import Receive, Scope, Send

from shared.errors import Ending, InvalidInput, MediaTooLarge, RequestTimeout
from shared.schemas import Output

JSON = "application/json"
_MARK = f"file-{secrets.token_hex(16)}"  # stands for a file while the rest is written; nobody else knows it
MAX_RECEIPT_HEADER = 8000  # bytes; many clients and proxies refuse a longer header


def json_answer(result: Mapping[str, Any], job_id: str) -> Response:
    """The result as JSON."""
    return _Parts(json_parts(result), job_id)


class _Parts(Response):
    """JSON whose parts are sent one after the other: joined, a large answer would be copied once more."""

    def __init__(self, parts: list[bytes], job_id: str) -> None:
        self.status_code = 200
        self.background = None
        self.raw_headers = [
            (b"x-job-id", job_id.encode()),
            (b"content-type", JSON.encode()),
            (b"content-length", b"%d" % sum(map(len, parts))),
        ]
        self._parts = parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See starlette's Response."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        *first, last = self._parts
        for part in first:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": last})


class Admitted(Response):
    """An answer to a request that is open until the last byte is on its way: a worker that stops waits for that."""

    def __init__(self, answer: Response, inside: ExitStack) -> None:
        self.status_code = answer.status_code
        self.background = None
        self._answer = answer
        self._inside = inside

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See starlette's Response."""
        with self._inside:
            await self._answer(scope, receive, send)


def json_parts(result: Mapping[str, Any]) -> list[bytes]:
    """A result as JSON, in which files (`Output`) are data URLs; the parts belong together.

    base64 needs no escaping, so that files stand between the parts of the text, and never pass `json.dumps`. Python's
    own would hold the event loop for 1.2 ms to write 1 MiB, pybase64 does for 0.05.
    """
    files: list[Output] = []

    def marked(value: Any) -> str:
        if not isinstance(value, Output):
            raise TypeError(f"{type(value).__name__} is not JSON")
        files.append(value)
        return _MARK

    text = json.dumps(result, default=marked, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")
    first, *rest = text.split(_MARK.encode())
    parts = [first]
    for file, part in zip(files, rest, strict=True):
        parts += (f"data:{file.media_type};base64,".encode(), pybase64.b64encode(file.data), part)
    return parts


def file_answer(result: Mapping[str, Any], media_type: str, job_id: str) -> Response | None:
    """The result's only file as it is, what belongs to it in headers; None where there is not one of this type."""
    shown = [*result.get("images", ()), *result.get("videos", ())]
    made = shown[0] if len(shown) == 1 else None
    data = _file(made["url"], media_type) if made else None
    if made is None or data is None:
        return None
    receipt = json.dumps(result["receipt"], separators=(",", ":"))
    headers = {
        "X-Job-Id": job_id,
        "X-Seed": json.dumps(made["seed"]),
        "X-Nsfw": json.dumps(made["nsfw"]),
        "X-Metrics": json.dumps(result["metrics"], separators=(",", ":")),
        "X-Receipt": receipt if len(receipt) <= MAX_RECEIPT_HEADER else "too long for a header; ask for JSON",
        "X-Content-Type-Options": "nosniff",
        "Vary": "Accept",
    }
    return Response(data, headers=headers, media_type=media_type)


def _file(url: str | Output, media_type: str) -> bytes | None:
    """The file behind what a result shows, where it is of this type and not elsewhere."""
    if isinstance(url, Output):
        return url.data if url.media_type == media_type else None
    start = f"data:{media_type};base64,"
    return pybase64.b64decode(url[len(start) :]) if url.startswith(start) else None


def postponed(endpoint: str, job_id: str) -> Response:
    """A job that goes on without this request: where it can be asked for."""
    at = f"/v2/{endpoint}/status/{job_id}"
    body = json.dumps({"id": job_id, "status": "IN_PROGRESS", "url": at})
    return Response(body, 202, {"Location": at, "X-Job-Id": job_id}, media_type=JSON)


def refusal(ending: Ending) -> Response:
    """An ending as REST answers it: 422 with FastAPI's own list, any other with `{"detail": {"msg", "code"}}`."""
    status = ending.http_status
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    if isinstance(ending, MediaTooLarge | RequestTimeout):
        headers["Connection"] = "close"  # or the server would go on reading a body that never ends
    if "retry_after_s" in ending.detail:
        headers["Retry-After"] = str(ending.detail["retry_after_s"])
    detail: Any = ending.as_dict()
    if isinstance(ending, InvalidInput) and status == 422:
        found = ending.detail.get("errors") or [{"loc": [], "msg": ending.message, "type": "invalid_input"}]
        detail = [{**error, "loc": ["body", *error["loc"]]} for error in found]
    body = json.dumps({"detail": detail}).encode()
    return Response(body, status, headers, media_type=JSON)
