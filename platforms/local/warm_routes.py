"""POST /v2/{endpoint}/warm: load a model ahead of its first job."""

from collections.abc import Mapping
from functools import partial

from fastapi import APIRouter, Depends, Request, Response

from platforms.local.fleet import Fleet
from platforms.local.queue import SqliteBackend
from shared.errors import InvalidInput
from shared.jobs import warm
from shared.jobs.auth import requires
from shared.jobs.backend import find_backend


def warm_router(fleet: Fleet | None, backends: Mapping[str, SqliteBackend], key: str) -> APIRouter:
    """The route; without a fleet it says what to do instead, for then workers choose their models by themselves."""
    router = APIRouter(prefix="/v2/{endpoint}", dependencies=[Depends(requires(key))])

    @router.post("/warm")
    async def route(endpoint: str, request: Request) -> Response:
        find_backend(backends, endpoint)
        if fleet is None:
            raise InvalidInput("warm: needs `pilotlight up --gpus`; without it, `warm` in models.json loads a model")
        return await warm.answer(request, partial(fleet.warm, endpoint))

    return router
