"""How the endpoint answers errors: in its own shape, and on OpenAI's routes in theirs."""

import json
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from shared import openai
from shared.errors import Ending, Internal, InvalidInput, JobError, MediaTooLarge, NotFound, RequestTimeout

_OPENAI = "openai"  # the part of the path after `/v2/{endpoint}/`


def error_response(ending: Ending) -> Response:
    """An error as the endpoint answers it; a request that cannot be a job is 400 here, whatever REST calls it."""
    status = ending.http_status
    if isinstance(ending, InvalidInput | MediaTooLarge) and status in (413, 422):
        status = 400
    body: dict[str, Any] = {"error": str(ending), "detail": ending.as_dict()}
    return Response(json.dumps(body), status, _headers(ending, status), media_type="application/json")


def openai_response(ending: Ending) -> Response:
    """The same for OpenAI's clients; they try again by themselves, unless they are told that it would not help."""
    body = openai.error(ending)
    status = openai.status_of(body)
    headers = _headers(ending, status)
    if not ending.retryable:
        headers["X-Should-Retry"] = "false"
    return JSONResponse(body, status, headers)


def answer_errors(app: FastAPI) -> None:
    """Answer whatever the application's routes raise."""

    @app.exception_handler(JobError)
    async def job_error(request: Request, exc: JobError) -> Response:
        return _response(request, exc)

    @app.exception_handler(HTTPException)
    async def no_such_route(request: Request, exc: HTTPException) -> Response:
        if _is_openai(request):
            return openai_response(NotFound(f"no route {request.method} {request.url.path[:64]}"))
        code = "not_found" if exc.status_code == 404 else "invalid_input"
        body = {"error": f"{code}: {exc.detail}", "detail": {"code": code, "msg": exc.detail}}
        return JSONResponse(body, exc.status_code, exc.headers)

    @app.exception_handler(ClientDisconnect)
    async def client_has_gone(_request: Request, _exc: ClientDisconnect) -> Response:
        return Response(status_code=400)

    @app.exception_handler(Exception)
    async def bug(request: Request, _exc: Exception) -> Response:
        return _response(request, Internal("the endpoint failed; its log has the traceback"))


def _response(request: Request, ending: Ending) -> Response:
    return openai_response(ending) if _is_openai(request) else error_response(ending)


def _is_openai(request: Request) -> bool:
    return request.url.path.split("/")[3:4] == [_OPENAI]


def _headers(ending: Ending, status: int) -> dict[str, str]:
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    if isinstance(ending, MediaTooLarge | RequestTimeout):
        headers["Connection"] = "close"  # or the server would go on reading a body that never ends
    if "retry_after_s" in ending.detail:
        headers["Retry-After"] = str(ending.detail["retry_after_s"])
    return headers
