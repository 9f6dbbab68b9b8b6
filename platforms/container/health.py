"""Whether the container is loading, ready, broken or stopping; and the probes that tell, which need no key."""

import threading
from collections.abc import Callable
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from shared import results

Status = Literal["LOADING", "OK", "ERROR", "IDLE"]
Prober = tuple[str, str]
IDLE_TIMES = 3
MAX_PROBERS = 64


class HealthCheck(BaseModel):
    """The container's state, as Livepeer's runner tells it, and more."""

    status: Status = Field(description="LOADING until the models are warm; ERROR where they cannot be had.")
    reason: str | None = Field(None, description="What is wrong, or what is being waited for.")
    draining: bool = Field(False, description="Whether it stops: it finishes what it has, and takes nothing new.")
    open: bool = Field(False, description="Whether it serves anybody: AUTH_TOKEN is not set.")


class Version(BaseModel):
    """What serves which pipeline."""

    pipeline: str = Field(description="The first one, or the only one.")
    model_id: str = Field(description="Its model; empty where it has none.")
    version: str = Field(description="Of this software.")


class Health:
    """The state behind the probes.

    Livepeer's node takes a container that answers LOADING out of its pool, and only IDLE puts it back: after OK it
    would never send a job. IDLE while a job runs would put it back too early. So whoever was told LOADING is told
    IDLE, a few times, as long as nothing runs; everybody else, and from then on everybody, is told OK.
    """

    def __init__(self, *, is_open: bool = False) -> None:
        self.error: str | None = None
        self.is_ready = False
        self.is_draining = False
        self.is_busy: Callable[[], bool] = lambda: False
        self._is_open = is_open
        self._owed: dict[Prober, int] = {}
        self._lock = threading.Lock()

    def check(self, prober: Prober) -> HealthCheck:
        """What one who asks is told."""
        return HealthCheck(
            status=self._status(prober), reason=self.error, draining=self.is_draining, open=self._is_open
        )

    def _status(self, prober: Prober) -> Status:
        if self.error:
            return "ERROR"
        with self._lock:
            if not self.is_ready:
                if len(self._owed) < MAX_PROBERS:
                    self._owed[prober] = IDLE_TIMES
                return "LOADING"
            left = self._owed.get(prober, 0)
            if not left or self.is_busy():
                return "OK"
            self._owed[prober] = left - 1
            return "IDLE"

    def ping(self) -> int:
        """The HTTP status by which RunPod's load balancer judges a worker."""
        if self.error or self.is_draining:
            return 503
        return 200 if self.is_ready else 204


def probes(health: Health, version: Version) -> APIRouter:
    """`/health`, which answers 200 in any state, `/ping` and `/version`.

    A node that reads another HTTP status there, twice, destroys the container, and so it does at ERROR.
    """
    router = APIRouter()

    async def check(request: Request) -> HealthCheck:
        host = request.client.host if request.client else ""
        return health.check((host, request.headers.get("User-Agent", "")))

    async def ping() -> Response:
        return Response(status_code=health.ping())

    async def tell_version() -> Version:
        return version

    said: dict[int | str, dict[str, Any]] = {
        204: {"description": "Loading."},
        503: {"description": "Broken, or stopping."},
    }
    router.add_api_route("/health", check, operation_id="health", response_model_exclude_none=True)
    router.add_api_route("/ping", ping, operation_id="ping", response_class=Response, responses=said)
    router.add_api_route("/version", tell_version, operation_id="version")
    return router


def version_of(pipeline: str, model_id: str) -> Version:
    """What this process is."""
    return Version(pipeline=pipeline, model_id=model_id, version=results.version())
