"""OpenAI's routes on an endpoint: each request becomes a job, as RunPod's edge does it."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from shared import openai
from shared.errors import ENDINGS, DeadlineExceeded, InsufficientCapacity, Internal, NotFound
from shared.jobs.backend import ENDED, Backend, JobView, Submission
from shared.jobs.failures import failure_of_job, openai_error
from shared.jobs.refusals import openai_response
from shared.jobs.uploads import Uploads
from shared.jobs.wire import MIB, parse_json, read_body, unless_gone

LIMIT = 10 * MIB
_LONGEST_S = 600.0
_EVENTS = "text/event-stream"
_NOT_BUFFERED = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
_WAITING = b": waiting\n\n"


def openai_router(backend_of: Callable[[str], Backend], uploads: Uploads, hold_s: float = 10.0) -> APIRouter:
    """`/openai/...`, to be included under the endpoint's prefix; `uploads` is the room for bodies.

    A stream without a piece is silent for `hold_s`: until then its status is open, after it comments keep it alive.
    """
    router = APIRouter(prefix="/openai")

    @router.api_route("/{path:path}", methods=["GET", "POST"])
    async def forward(endpoint: str, path: str, request: Request) -> Response:
        backend = backend_of(endpoint)
        job_input: dict[str, Any] = {"openai_route": f"/{path}"}
        if request.method == "POST":
            with uploads.room(request.headers.get("Content-Length"), LIMIT):
                job_input["openai_input"] = parse_json(await read_body(request, LIMIT))
        job = await backend.submit(Submission(job_input))
        asked = job_input.get("openai_input")
        streams = isinstance(asked, dict) and asked.get("stream") is True
        if streams:
            response = await _streamed(_Reader(backend, job.id, request, hold_s))
        else:
            response = await _whole(backend, job.id, request)
        response.headers["X-Request-Id"] = job.id
        return response

    return router


async def _whole(backend: Backend, job_id: str, request: Request) -> Response:
    ended = False
    try:
        begun = _now()
        job = await unless_gone(request, backend.wait(job_id, _LONGEST_S))
        ended = job.ended
    finally:
        if not ended:
            await _cancel(backend, job_id)
    if not ended:
        return openai_response(_unended(begun + _LONGEST_S))
    if job.status != "COMPLETED":
        return _failed(job)
    return Response(await _answer(backend, job), media_type="application/json")


async def _cancel(backend: Backend, job_id: str) -> None:
    """Stop a job that nobody waits for, also while this request is itself being cancelled."""
    with anyio.CancelScope(shield=True), contextlib.suppress(NotFound):  # purged meanwhile
        await backend.cancel(job_id)


def _unended(until: float) -> DeadlineExceeded | InsufficientCapacity:
    if _now() < until - _LONGEST_S / 2:  # the wait was cut short
        return InsufficientCapacity("the endpoint is stopping; try again in a while")
    return DeadlineExceeded(f"no answer within {_LONGEST_S:.0f} s; the job was cancelled")


async def _answer(backend: Backend, job: JobView) -> bytes:
    """The object that the worker returned, or yielded as its only piece."""
    output = json.loads(job.output or b"null")
    if output:
        return json.dumps(output[0]).encode() if isinstance(output, list) and len(output) == 1 else job.output or b""
    pieces = (await backend.stream(job.id, 0, 0)).pieces
    return pieces[0][1] if pieces else b"null"


class _Reader:
    """Reads the pieces of one job, each once and in order, while its client listens."""

    def __init__(self, backend: Backend, job_id: str, request: Request, hold_s: float) -> None:
        self.ended = False
        self._hold_s = hold_s
        self._backend = backend
        self._job_id = job_id
        self._request = request
        self._next = 0
        self._last_read = -1

    async def read(self) -> list[bytes]:
        """The pieces since the last look; none when none came within the hold, or the job has ended without more.

        Raises:
            ClientDisconnect: nobody listens any more.
            Internal: the job's worker was lost after pieces of it had left, and the job begins anew.
            InsufficientCapacity: the endpoint stops.
        """
        asked = _now()
        view = await unless_gone(self._request, self._backend.stream(self._job_id, self._next, self._hold_s))
        if 0 <= self._last_read < view.first:
            raise Internal("the worker was lost in the middle of this answer; ask again")
        self._next = view.next
        if view.pieces:
            self._last_read = view.pieces[-1][0]
        self.ended = view.status in ENDED
        if not view.pieces and not self.ended and _now() < asked + self._hold_s / 2:  # cut short
            raise InsufficientCapacity("the endpoint is stopping; try again in a while")
        return [piece for _, piece in view.pieces]

    async def job(self) -> JobView:
        """The job as it stands."""
        return await self._backend.status(self._job_id)

    async def cancel_unless_ended(self) -> None:
        """Stop the job when nobody has seen its end."""
        if not self.ended:
            await _cancel(self._backend, self._job_id)


async def _streamed(reader: _Reader) -> Response:
    """Events; but a job that fails before its first piece is answered with the status of its error."""
    is_handed_on = False
    try:
        first = await reader.read()
        if reader.ended and not first:
            job = await reader.job()
            if job.status != "COMPLETED":
                return _failed(job)
            first = [job.output or b"null"]  # of a worker that does not stream
        is_handed_on = True
        return _EventStream(reader, first)
    finally:
        if not is_handed_on:
            await reader.cancel_unless_ended()


class _EventStream(StreamingResponse):
    """Forwards pieces as they come, and cancels the job when its client leaves before the end."""

    def __init__(self, reader: _Reader, first: list[bytes]) -> None:
        super().__init__(_events(reader, first), media_type=_EVENTS, headers=_NOT_BUFFERED)
        self._reader = reader

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._reader.cancel_unless_ended()


async def _events(reader: _Reader, pieces: list[bytes]) -> AsyncIterator[bytes]:
    last = b""
    try:
        while not reader.ended:
            yield b"".join(map(_event, pieces)) or _WAITING
            last = pieces[-1] if pieces else last
            pieces = await reader.read()
        if pieces:
            yield b"".join(map(_event, pieces))
        job = await reader.job()
        if job.status != "COMPLETED" and not _tells_error(pieces[-1] if pieces else last):
            yield b"data: " + bytes(_failed(job).body) + b"\n\n"
    except ENDINGS as ending:
        yield openai.event(openai.error(ending)).encode()
    except ClientDisconnect:
        return


def _event(piece: bytes) -> bytes:
    value = json.loads(piece)
    return value.encode(errors="replace") if isinstance(value, str) else b"data: " + piece + b"\n\n"


def _tells_error(piece: bytes) -> bool:
    """Whether the worker has told the stream's reader itself of its end."""
    return _event(piece).startswith(b'data: {"error"') if piece else False


def _failed(job: JobView) -> Response:
    if job.status == "FAILED" and (body := openai_error(job.error)):
        return JSONResponse(body, openai.status_of(body))
    return openai_response(failure_of_job({"id": job.id, "status": job.status, "error": job.error}))


def _now() -> float:
    return asyncio.get_running_loop().time()
