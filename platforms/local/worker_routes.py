"""The worker's side of the protocol, as RunPod's SDK speaks it."""

import asyncio
import contextlib
import errno
import re
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse

from platforms.local.queue import SqliteBackend
from platforms.local.report import read_report
from platforms.local.store import DISK_FULL, JobRow
from shared.errors import InsufficientCapacity, InvalidInput, MediaTooLarge, NotFound
from shared.jobs.auth import requires
from shared.jobs.backend import find_backend
from shared.jobs.wire import disconnected, read_body

_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_MAX_FILE_BYTES = 16 * 2**30
_MAX_BATCH = 256


def worker_router(
    backends: Mapping[str, SqliteBackend], token: str, *, strict: bool = False, hold_s: float = 15.0
) -> APIRouter:
    """Job-take, job-stop, job-done, job-stream, ping, and the place for large results.

    `hold_s` is how long a poll is held while there is nothing to say.
    """
    router = APIRouter(prefix="/v2/{endpoint}", dependencies=[Depends(requires(token))])

    def backend_of(endpoint: str) -> SqliteBackend:
        return find_backend(backends, endpoint)

    @router.get("/job-take/{worker}")
    async def job_take(endpoint: str, worker: str, request: Request) -> Response:
        worker_id, _ = _split(worker, request)
        jobs = await _take(backend_of(endpoint), worker_id, 1, request, hold_s)
        return _json(jobs[0]) if jobs else Response(status_code=204)

    @router.get("/job-take-batch/{worker}")
    async def job_take_batch(endpoint: str, worker: str, request: Request) -> Response:
        worker_id, query = _split(worker, request)
        size = min(_number(query, "batch_size", 1), _MAX_BATCH)
        jobs = await _take(backend_of(endpoint), worker_id, size, request, hold_s)
        return _json(b"[" + b",".join(jobs) + b"]") if jobs else Response(status_code=204)

    @router.get("/job-stop/{worker}")
    async def job_stop(endpoint: str, worker: str, request: Request) -> Response:
        worker_id, _ = _split(worker, request)
        jobs = await backend_of(endpoint).desk.stops(worker_id, hold_s)
        return JSONResponse({"jobsToStop": jobs}) if jobs else Response(status_code=204)

    @router.post("/job-done/{worker}/{job_id}")
    async def job_done(endpoint: str, worker: str, job_id: str, request: Request) -> Response:
        desk, job_id = backend_of(endpoint).desk, _split(job_id, request)[0]
        try:
            body = await read_body(request, desk.result_limit(job_id))
        except MediaTooLarge as exc:
            desk.refuse_result(worker, job_id, exc)
            raise
        desk.done(worker, job_id, await asyncio.to_thread(read_report, body))
        return Response(status_code=200)

    @router.post("/job-stream/{worker}/{job_id}")
    async def job_stream(endpoint: str, worker: str, job_id: str, request: Request) -> Response:
        desk, job_id = backend_of(endpoint).desk, _split(job_id, request)[0]
        desk.piece(worker, job_id, await read_body(request, desk.result_limit(job_id)))
        return Response(status_code=200)

    @router.get("/ping/{worker}")
    async def ping(endpoint: str, worker: str, request: Request) -> Response:
        worker_id, query = _split(worker, request)
        named = {job_id for job_id in query.get("job_id", "").split(",") if job_id}
        unhealthy = query.get("reason", "unhealthy") if query.get("status") == "unhealthy" else None
        backend_of(endpoint).desk.ping(worker_id, named, unhealthy)
        return Response(status_code=200)

    if not strict:

        @router.put("/files/{job_id}/{name}")
        async def put_file(endpoint: str, job_id: str, name: str, request: Request) -> Response:
            backend = backend_of(endpoint)
            if not _FILE_NAME.fullmatch(name):
                raise InvalidInput("file name: letters, digits, `.`, `_` and `-` only")
            if backend.ledger.find(job_id).status != "IN_PROGRESS":
                raise NotFound("the job is not in progress")
            await _save(request, backend.files / job_id / name)
            return JSONResponse({"url": str(request.url.replace(query=""))})

    return router


def _split(last: str, request: Request) -> tuple[str, dict[str, str]]:
    """The last part of the path and the query; the SDK writes `pod&a=b` when its URL template has no `?`."""
    value, _, rest = last.partition("&")
    return value, {**dict(parse_qsl(rest)), **request.query_params}


def _number(query: Mapping[str, str], name: str, default: int) -> int:
    try:
        return max(1, int(query.get(name, default)))
    except ValueError as exc:
        raise InvalidInput(f"{name}: not a number") from exc


def _json(body: bytes) -> Response:
    return Response(body, media_type="application/json")


async def _take(backend: SqliteBackend, worker_id: str, size: int, request: Request, hold_s: float) -> list[bytes]:
    """Jobs for a worker, as JSON; empty when there are none, or nobody is left to have them."""
    poll = backend.desk.open_poll(worker_id, size)
    if poll is None:
        await asyncio.sleep(0.1)  # the SDK asks again at once
        return []
    gone = asyncio.ensure_future(disconnected(request))
    rows: list[JobRow] = []
    heard = False
    try:
        events: set[asyncio.Future[Any]] = {poll.answer, gone}
        await asyncio.wait(events, timeout=hold_s, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.sleep(0)  # let a disconnect that has arrived be seen
        heard = not gone.done()
    finally:
        gone.cancel()
        rows = backend.desk.close_poll(poll)
        if not heard:
            backend.desk.give_back(rows)
    return [backend.desk.job_json(row) for row in rows] if heard else []


async def _save(request: Request, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    incoming = path.parent / f".{uuid.uuid4().hex}"
    size = 0
    try:
        with incoming.open("wb") as out:
            async for chunk in request.stream():
                size += len(chunk)
                if size > _MAX_FILE_BYTES:
                    raise MediaTooLarge(f"file: larger than {_MAX_FILE_BYTES} bytes")
                await asyncio.to_thread(out.write, chunk)
        incoming.replace(path)
    except OSError as exc:
        if exc.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise InsufficientCapacity(DISK_FULL) from exc
    finally:
        with contextlib.suppress(FileNotFoundError):
            incoming.unlink()
