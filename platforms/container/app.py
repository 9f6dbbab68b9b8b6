"""The container's HTTP application: REST routes, probes, and what the worker tells of itself."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request
from starlette.types import ASGIApp, Receive, Scope, Send

from platforms.container.health import Health, Version, probes
from platforms.container.statuses import ReadStatuses
from shared.jobs.auth import requires
from shared.jobs.cancels import cancel_router
from shared.jobs.direct import Direct
from shared.jobs.document import describe
from shared.jobs.performer import Performer
from shared.jobs.rest import RestRouter
from shared.jobs.rest_errors import answer_rest_errors
from shared.jobs.uploads import Uploads
from shared.schemas import Handler


def container_app(
    handlers: Mapping[str, Handler],
    performer: Performer,
    health: Health,
    version: Version,
    *,
    token: str | None,
    max_media_bytes: int,
    text_model: str = "",
    on_refusal: Callable[[str], None] = lambda code: None,
    livepeer_statuses: bool = False,
    about: Sequence[APIRouter] = (),
) -> "Fronted":
    """The application; it asks the performer for nothing until a request comes.

    Args:
        handlers: those that the worker serves, by pipeline.
        token: what requests must carry, but for the probes; None lets everybody in.
        text_model: what `/llm` says has answered, where a request names no model.
        on_refusal: hears the code of the error by which an upload is turned away.
        livepeer_statuses: whether errors have only the statuses that Livepeer's node reads.
        about: routes that tell of the worker, behind the token.
    """
    check = requires(token) if token else _anybody
    app = Fronted(title="Pilotlight", version=version.version, redoc_url=None, redirect_slashes=False)
    app.include_router(probes(health, version))
    rest = RestRouter(
        handlers,
        performer,
        check=check,
        uploads=Uploads(max_media_bytes, on_refusal),
        text_model=text_model,
    )
    app.include_router(rest)
    for router in (cancel_router(performer), *about):
        app.include_router(router, dependencies=[Depends(check)])
    answer_rest_errors(app)
    app.front = WithoutSlash(Direct(app.front, rest.endpoints))
    if livepeer_statuses:
        app.front = ReadStatuses(app.front)
    describe(app, handlers)
    return app


class Fronted(FastAPI):
    """An application with something before it: its own middlewares come before its routes, but after `front`."""

    front: ASGIApp

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.front = super().__call__

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        await self.front(scope, receive, send)


class WithoutSlash:
    """Takes `/path/` for `/path`: Livepeer's clients may write either."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if len(path) > 1 and path.endswith("/"):
            scope = {**scope, "path": path[:-1]}
        await self._app(scope, receive, send)


async def _anybody(request: Request) -> None:
    """Lets every request pass."""
