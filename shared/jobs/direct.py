"""Answers some routes before the application looks for them."""

from collections.abc import Awaitable, Callable, Mapping

from fastapi import Request, Response
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from shared.errors import Internal
from shared.jobs.answers import refusal

Endpoint = Callable[[Request], Awaitable[Response]]
BUG = "the container failed; its log has the traceback"


class Direct:
    """Hands `POST` on known paths to what answers them, and all else to the application.

    FastAPI's middlewares, routing, dependencies and exit stacks take a third of the time of a small answer, and what
    is answered here uses none of them; the application has the same routes for its document. An endpoint must answer
    what it raises, but for bugs: those are answered as such here, and raised again for the server to log them.
    """

    def __init__(self, app: ASGIApp, endpoints: Mapping[str, Endpoint]) -> None:
        self._app = app
        self._endpoints = endpoints

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        endpoint = self._endpoints.get(scope["path"]) if scope["type"] == "http" else None
        if endpoint is None or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        try:
            response = await endpoint(Request(scope, receive, send))
        except ClientDisconnect:  # nobody reads it
            response = Response(status_code=400)
        except Exception:
            await refusal(Internal(BUG))(scope, receive, send)
            raise
        await response(scope, receive, send)
