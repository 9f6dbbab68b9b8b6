"""OpenAI's routes on an endpoint: each request becomes a job, as RunPod's edge does it."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from shared.errors import http_status_of
from shared.jobs.backend import Backend, JobView, Submission
from shared.jobs.submission import read_submission
from shared.jobs.wire import MIB, disconnected, parse_json, read_body

_HOLD_S = 10.0
_LONGEST_S = 600.0


def openai_router(backend_of: Callable[[str], Backend]) -> APIRouter:
    """`/openai/...`, to be included under the endpoint's prefix."""
    router = APIRouter(prefix="/openai")

    @router.api_route("/{path:path}", methods=["GET", "POST"])
    async def openai(endpoint: str, path: str, request: Request) -> Response:
        backend = backend_of(endpoint)
        job_input: dict[str, Any] = {"openai_route": f"/{path}"}
        body = await read_body(request, 10 * MIB)
        if request.method == "POST":
            job_input["openai_input"] = parse_json(body)
        job = await backend.submit(_submission(job_input))
        if isinstance(job_input.get("openai_input"), dict) and job_input["openai_input"].get("stream") is True:
            return StreamingResponse(_events(backend, job.id), media_type="text/event-stream")
        return await _whole(backend, job.id, request)

    return router


def _submission(job_input: dict[str, Any]) -> Submission:
    return read_submission({"input": job_input}, sync=False, idempotency_key=None)


async def _whole(backend: Backend, job_id: str, request: Request) -> Response:
    waiting = asyncio.ensure_future(backend.wait(job_id, _LONGEST_S))
    gone = asyncio.ensure_future(disconnected(request))
    try:
        await asyncio.wait({waiting, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done() or not waiting.result().ended:
            await backend.cancel(job_id)
            return _error("deadline_exceeded: the answer took too long", 504)
        job = waiting.result()
    finally:
        waiting.cancel()
        gone.cancel()
    if job.status != "COMPLETED":
        return _failed(job)
    return Response(await _answer(backend, job), media_type="application/json")


async def _answer(backend: Backend, job: JobView) -> bytes:
    """The object that the worker returned, or yielded as its only piece."""
    output = json.loads(job.output or b"null")
    if output:
        return json.dumps(output[0]).encode() if isinstance(output, list) and len(output) == 1 else job.output or b""
    pieces = (await backend.stream(job.id, 0, 0)).pieces
    return pieces[0][1] if pieces else b"null"


async def _events(backend: Backend, job_id: str) -> AsyncIterator[bytes]:
    ended = False
    start = 0
    try:
        while not ended:
            view = await backend.stream(job_id, start, _HOLD_S)
            start = view.next
            for _, piece in view.pieces:
                yield _event(piece)
            ended = view.status not in ("IN_QUEUE", "IN_PROGRESS")
            if not ended and not view.pieces:
                yield b": waiting\n\n"
        job = await backend.status(job_id)
        if job.status != "COMPLETED":
            yield b"data: " + bytes(_failed(job).body) + b"\n\n"
    finally:
        if not ended:
            with anyio.CancelScope(shield=True):
                await backend.cancel(job_id)


def _event(piece: bytes) -> bytes:
    value = json.loads(piece)
    return value.encode(errors="replace") if isinstance(value, str) else b"data: " + piece + b"\n\n"


def _failed(job: JobView) -> Response:
    text = job.error or f"{'cancelled' if job.status == 'CANCELLED' else 'deadline_exceeded'}: the job {job.status}"
    return _error(text, http_status_of(text.partition(":")[0]))


def _error(text: str, status: int) -> Response:
    code, _, message = text.partition(": ")
    return JSONResponse({"error": {"message": message or text, "type": code, "code": status}}, status)
