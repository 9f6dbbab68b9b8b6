"""How the synchronous routes answer what they did not expect."""

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from shared.errors import Internal, JobError
from shared.jobs.answers import refusal
from shared.jobs.direct import BUG


def answer_rest_errors(app: FastAPI) -> None:
    """Answer whatever the application's routes raise."""

    @app.exception_handler(JobError)
    async def job_error(_request: Request, exc: JobError) -> Response:
        return refusal(exc)

    @app.exception_handler(HTTPException)
    async def no_such_route(_request: Request, exc: HTTPException) -> Response:
        code = "not_found" if exc.status_code == 404 else "invalid_input"
        return JSONResponse({"detail": {"code": code, "msg": exc.detail}}, exc.status_code, exc.headers)

    @app.exception_handler(ClientDisconnect)
    async def client_has_gone(_request: Request, _exc: ClientDisconnect) -> Response:
        return Response(status_code=400)

    @app.exception_handler(Exception)
    async def bug(_request: Request, _exc: Exception) -> Response:
        return refusal(Internal(BUG))
