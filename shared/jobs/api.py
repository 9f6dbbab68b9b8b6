"""The endpoint's HTTP API in RunPod's shape, over any backend."""

import importlib.metadata
from collections.abc import Mapping

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from starlette.types import Lifespan

from shared.jobs.auth import requires
from shared.jobs.backend import Backend, EventsView, JobView, StreamView, find_backend
from shared.jobs.openai import openai_router
from shared.jobs.refusals import answer_errors
from shared.jobs.submission import TTL_MS, read_submission
from shared.jobs.uploads import Uploads
from shared.jobs.wire import MIB, parse_json, query_int, read_body, unless_gone

Backends = Mapping[str, Backend]

RUN_LIMIT = 10 * MIB
RUNSYNC_LIMIT = 20 * MIB
MAX_WAIT_MS = 300_000
MAX_STATUS_WAIT_MS = 90_000
_MAX_EVENT = 2**53


def client_app(
    backends: Backends,
    key: str,
    *,
    uploads: Uploads,
    strict: bool = False,
    routers: tuple[APIRouter, ...] = (),
    lifespan: Lifespan[FastAPI] | None = None,
) -> FastAPI:
    """An application with the client's routes, the open probes and whatever else the platform serves."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, lifespan=lifespan)
    app.include_router(_probes())
    app.include_router(client_router(backends, key, uploads, strict=strict))
    for router in routers:
        app.include_router(router)
    answer_errors(app)
    return app


def client_router(backends: Backends, key: str, uploads: Uploads, *, strict: bool = False) -> APIRouter:
    """RunPod's client-side routes under `/v2/{endpoint}`; strict keeps to RunPod's own limits and bodies.

    `uploads` is the room for bodies, which other routes may share.
    """
    router = APIRouter(prefix="/v2/{endpoint}", dependencies=[Depends(requires(key))])
    shortest_ms = 1000 if strict else 0

    def backend_of(endpoint: str) -> Backend:
        return find_backend(backends, endpoint)

    def wait_s(request: Request, default_ms: int, longest_ms: int = MAX_WAIT_MS) -> float:
        return (query_int(request, "wait", shortest_ms, longest_ms, default_ms) or 0) / 1000

    @router.post("/run")
    async def run(endpoint: str, request: Request) -> Response:
        job = await _submit(backend_of(endpoint), request, uploads, sync=False)
        return JSONResponse({"id": job.id, "status": job.status})

    @router.post("/runsync")
    async def runsync(endpoint: str, request: Request) -> Response:
        backend = backend_of(endpoint)
        timeout_s = wait_s(request, 90_000)
        job = await _submit(backend, request, uploads, sync=True)
        return _job(await unless_gone(request, backend.wait(job.id, timeout_s)))

    @router.api_route("/status/{job_id}", methods=["GET", "POST"])
    async def status(endpoint: str, job_id: str, request: Request) -> Response:
        return _job(await backend_of(endpoint).status(job_id, query_int(request, "ttl", *TTL_MS)))

    @router.api_route("/status-sync/{job_id}", methods=["GET", "POST"])
    async def status_sync(endpoint: str, job_id: str, request: Request) -> Response:
        timeout_s = wait_s(request, MAX_STATUS_WAIT_MS, MAX_STATUS_WAIT_MS)
        return _job(await unless_gone(request, backend_of(endpoint).wait(job_id, timeout_s)))

    @router.api_route("/stream/{job_id}", methods=["GET", "POST"])
    async def stream(endpoint: str, job_id: str, request: Request) -> Response:
        start = None if strict else query_int(request, "from", 0, _MAX_EVENT)
        reading = backend_of(endpoint).stream(job_id, start, wait_s(request, 10_000))
        view = await unless_gone(request, reading)  # a reader that has gone must not drain pieces
        return _raw_json(_stream_body(view, numbered=not strict))

    @router.post("/cancel/{job_id}")
    async def cancel(endpoint: str, job_id: str) -> Response:
        job = await backend_of(endpoint).cancel(job_id)
        return JSONResponse({"id": job.id, "status": job.status})

    @router.post("/retry/{job_id}")
    async def retry(endpoint: str, job_id: str) -> Response:
        job = await backend_of(endpoint).retry(job_id)
        return JSONResponse({"id": job.id, "status": job.status})

    @router.post("/purge-queue")
    async def purge_queue(endpoint: str) -> Response:
        return JSONResponse({"removed": await backend_of(endpoint).purge(), "status": "completed"})

    @router.get("/health")
    async def health(endpoint: str) -> Response:
        return JSONResponse(await backend_of(endpoint).health())

    @router.get("/metrics")
    async def metrics(endpoint: str) -> Response:
        return JSONResponse(await backend_of(endpoint).metrics())

    @router.get("/files/{job_id}/{name}")
    async def file(endpoint: str, job_id: str, name: str) -> Response:
        path = await backend_of(endpoint).file(job_id, name)
        return FileResponse(path, headers={"X-Content-Type-Options": "nosniff"})

    async def events(endpoint: str, job_id: str, request: Request) -> Response:
        start = query_int(request, "from", 0, _MAX_EVENT, 0) or 0
        reading = backend_of(endpoint).events(job_id, start, wait_s(request, 10_000))
        return _raw_json(_events_body(await unless_gone(request, reading)))

    if not strict:
        router.add_api_route("/events/{job_id}", events)
    router.include_router(openai_router(backend_of, uploads))
    return router


def _probes() -> APIRouter:
    router = APIRouter()

    @router.get("/health")
    def health() -> dict[str, str]:
        return {"status": "OK"}

    @router.get("/ping")
    def ping() -> dict[str, str]:
        return {"status": "OK"}

    @router.get("/version")
    def version() -> dict[str, str]:
        try:
            return {"version": importlib.metadata.version("pilotlight")}
        except importlib.metadata.PackageNotFoundError:  # run from a checkout that is not installed
            return {"version": "unknown"}

    return router


async def _submit(backend: Backend, request: Request, uploads: Uploads, *, sync: bool) -> JobView:
    limit = RUNSYNC_LIMIT if sync else RUN_LIMIT
    with uploads.room(request.headers.get("Content-Length"), limit):
        body = parse_json(await read_body(request, limit))
        key = request.headers.get("Idempotency-Key") or None
        return await backend.submit(read_submission(body, sync=sync, idempotency_key=key))


def _raw_json(body: bytes) -> Response:
    return Response(body, media_type="application/json")


def _job(job: JobView) -> Response:
    return _raw_json(job.to_json())


def _stream_body(view: StreamView, *, numbered: bool) -> bytes:
    items = [
        b'{"output":%s,"n":%d}' % (value, n) if numbered else b'{"output":%s}' % value for n, value in view.pieces
    ]
    following = b',"next":%d' % view.next if numbered else b""
    if numbered and view.first:
        following += b',"first":%d' % view.first
    return b'{"status":"%s","stream":[%s]%s}' % (view.status.encode(), b",".join(items), following)


def _events_body(view: EventsView) -> bytes:
    events = b",".join(b'{"n":%d,"%s":%s}' % (n, kind.encode(), value) for n, kind, value in view.events)
    first = b',"first":%d' % view.first if view.first else b""
    return b'{"status":"%s","events":[%s],"next":%d%s}' % (view.status.encode(), events, view.next, first)
