"""The web function's application: the endpoints' API and the synchronous routes, over Modal's calls."""

import contextlib
import time
from collections.abc import Iterable, Mapping

from fastapi import APIRouter, Depends, FastAPI

from platforms.modal.backend import ModalBackend, Shelf
from platforms.modal.jobs import Board, Calls
from platforms.modal.performer import ModalPerformer
from shared.errors import InvalidInput, NotFound
from shared.jobs.api import client_app
from shared.jobs.auth import requires
from shared.jobs.cancels import CancelAnswer
from shared.jobs.rest import RestRouter
from shared.jobs.uploads import Uploads
from shared.models.catalog import BUILT_IN, TEXT_GENERATION, Catalog, Entry, read
from shared.plan import Planner
from shared.schemas import Registry
from shared.settings import Settings

MEDIA = "media"


def web_app(settings: Settings, registry: Registry, board: Board, calls: Calls, shelf: Shelf) -> FastAPI:
    """The application; every route but the probes asks for `AUTH_TOKEN`.

    Raises:
        InvalidInput: there is no token.
    """
    if settings.auth_token is None:
        raise InvalidInput("AUTH_TOKEN is not set: anybody could spend your money; put it into the secret")
    token = settings.auth_token.get_secret_value()
    backends = {
        name: ModalBackend(name, planner, board, calls, shelf, time.time)
        for name, planner in planners(settings, registry).items()
    }
    homes = {pipeline: backend for backend in backends.values() for pipeline in backend.planner.pipelines}
    performer = ModalPerformer(homes.__getitem__)
    check = requires(token)
    uploads = Uploads(settings.max_media_bytes)
    rest = RestRouter(
        {pipeline: registry.get(pipeline) for pipeline in homes},
        performer,
        check=check,
        uploads=uploads,
        text_model=next((entry.full_id for entry in listed(settings) if _is_text(entry)), ""),
    )
    guarded = APIRouter(dependencies=[Depends(check)])
    guarded.include_router(_cancel_router(backends.values()))
    return client_app(backends, token, uploads=uploads, routers=(rest, guarded))


def _cancel_router(backends: Iterable[ModalBackend]) -> APIRouter:
    """`POST /cancel/{job_id}`: by the board, for the request that waits for the job may be in another container."""
    router = APIRouter(tags=["generate"])

    @router.post("/cancel/{job_id}", operation_id="cancel")
    async def cancel(job_id: str) -> CancelAnswer:
        for backend in backends:
            with contextlib.suppress(NotFound):
                status = (await backend.cancel(job_id)).status
                return CancelAnswer(id=job_id, status=status if status in ("CANCELLED", "COMPLETED") else "FAILED")
        raise NotFound("no such job; results are kept for 7 days")

    return router


def planners(settings: Settings, registry: Registry) -> Mapping[str, Planner]:
    """What each endpoint serves, by its id: text has one of its own, for it leaves in pieces."""
    text = [entry for entry in listed(settings) if _is_text(entry)]
    media = [entry for entry in listed(settings) if not _is_text(entry)]
    return {
        name: Planner(
            settings.model_copy(update={"pipeline": pipeline, "model_id": None}),
            registry,
            Catalog(entries, allow_any=settings.allow_any_model),
        )
        for name, pipeline, entries in ((MEDIA, None, media), (TEXT_GENERATION, TEXT_GENERATION, text))
        if entries or (name == MEDIA and settings.handlers)
    }


def listed(settings: Settings) -> list[Entry]:
    """The models that the app serves: not those of nodes, for which a card would be rented to wait for another."""
    return [entry for entry in read(settings.models or BUILT_IN) if not entry.is_remote]


def _is_text(entry: Entry) -> bool:
    return entry.pipeline == TEXT_GENERATION
