"""Errors by the HTTP statuses that Livepeer's node reads."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

READ = frozenset({200, 400, 401, 422, 500})  # by the client that is generated from its runner's OpenAPI document


class ReadStatuses:
    """Answers a status that the node does not read by the nearest one that it does; the body says the rest.

    Its client takes any other one for an answer without a body, and then reads the body: the handler panics, and the
    place that was reserved for the job is never given back.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def read(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] >= 400:
                message = {**message, "status": nearest(message["status"])}
            await send(message)

        await self._app(scope, receive, read if scope["type"] == "http" and scope["path"] != "/ping" else send)


def nearest(status: int) -> int:
    """An error's own status where it is read, else 400 or 500."""
    if status in READ:
        return status
    return 400 if status < 429 else 500
