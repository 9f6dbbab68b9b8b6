"""The routes by which orchestrators, other nodes and Prometheus learn about a worker."""

from typing import Protocol

from fastapi import APIRouter, Request, Response

from shared.capabilities import Capabilities
from shared.hardware import HardwareInformation, HardwareStats


class About(Protocol):
    """What a worker, or whoever speaks for several, tells of itself. Called on threads beside the loop."""

    def capabilities(self) -> Capabilities:
        """What can be run, and how busy it is."""

    def hardware_info(self) -> HardwareInformation:
        """The cards; none where there are none."""

    def hardware_stats(self) -> HardwareStats:
        """How busy they are."""

    def metrics(self, accept: str) -> tuple[bytes, str]:
        """Prometheus' text in the format that an Accept header prefers, and its media type."""


def about_router(about: About) -> APIRouter:
    """`/capabilities`, `/hardware/info`, `/hardware/stats` and `/metrics`; whoever mounts it asks for the token."""
    router = APIRouter()

    @router.get("/capabilities", operation_id="capabilities", response_model_exclude_none=True)
    def capabilities() -> Capabilities:
        return about.capabilities()

    @router.get("/hardware/info", operation_id="hardware_info")
    def hardware_info() -> HardwareInformation:
        return about.hardware_info()

    @router.get("/hardware/stats", operation_id="hardware_stats")
    def hardware_stats() -> HardwareStats:
        return about.hardware_stats()

    text = {"schema": {"type": "string"}}
    formats = {"text/plain": text, "application/openmetrics-text": text}

    @router.get("/metrics", operation_id="metrics", response_class=Response, responses={200: {"content": formats}})
    def metrics(request: Request) -> Response:
        content, media_type = about.metrics(request.headers.get("Accept", ""))
        return Response(content, headers={"Content-Type": media_type})

    return router
