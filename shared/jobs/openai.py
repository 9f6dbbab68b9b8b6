"""OpenAI's routes on an endpoint: each request becomes a job, as RunPod's edge does it."""

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from shared.errors import http_status_of
from shared.jobs.backend import ENDED, Backend, JobView, Submission
from shared.jobs.wire import MIB, parse_json, read_body, unless_gone

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
        job = await backend.submit(Submission(job_input))
        if isinstance(job_input.get("openai_input"), dict) and job_input["openai_input"].get("stream") is True:
            return StreamingResponse(_events(backend, job.id), media_type="text/event-stream")
        return await _whole(backend, job.id, request)

    return router


async def _whole(backend: Backend, job_id: str, request: Request) -> Response:
    ended = False
    try:
        job = await unless_gone(request, backend.wait(job_id, _LONGEST_S))
        ended = job.ended
    finally:
        if not ended:
            await _cancel(backend, job_id)
    if job.status != "COMPLETED":
        return _failed(job)
    return Response(await _answer(backend, job), media_type="application/json")


async def _cancel(backend: Backend, job_id: str) -> None:
    """Stop a job that nobody waits for, also while this request is itself being cancelled."""
    with anyio.CancelScope(shield=True):
        await backend.cancel(job_id)


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
            ended = view.status in ENDED
            if not ended and not view.pieces:
                yield b": waiting\n\n"
        job = await backend.status(job_id)
        if job.status != "COMPLETED":
            yield b"data: " + bytes(_failed(job).body) + b"\n\n"
    finally:
        if not ended:
            await _cancel(backend, job_id)


def _event(piece: bytes) -> bytes:
    value = json.loads(piece)
    return value.encode(errors="replace") if isinstance(value, str) else b"data: " + piece + b"\n\n"


def _failed(job: JobView) -> Response:
    if job.status == "CANCELLED":
        return _error("cancelled: the job was cancelled", 499)
    text = job.error or "deadline_exceeded: the job did not end in time"
    return _error(text, http_status_of(text.partition(":")[0]))


def _error(text: str, status: int) -> Response:
    code, _, message = text.partition(": ")
    return JSONResponse({"error": {"message": message or text, "type": code, "code": status}}, status)
