"""The synchronous routes' cancel: answered once the job has left the device."""

import asyncio
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from shared.errors import NotFound, Stopped
from shared.jobs.performer import Performer


class CancelAnswer(BaseModel):
    """How a job that was to be cancelled has ended."""

    id: str = Field(description="The job's id.")
    status: Literal["CANCELLED", "COMPLETED", "FAILED"] = Field(description="COMPLETED where it was faster.")


def cancel_router(performer: Performer) -> APIRouter:
    """`POST /cancel/{job_id}`, for the id in the request's or in the answer's `X-Job-Id`; whoever mounts it asks for
    the token.
    """
    router = APIRouter(tags=["generate"])

    @router.post("/cancel/{job_id}", operation_id="cancel", responses={404: {"description": "No such job runs here"}})
    async def cancel(job_id: str) -> CancelAnswer:
        performance = performer.find(job_id)
        if performance is None:
            raise NotFound("no such job runs here, or it has ended")
        performance.stop("the client cancelled the job")
        await asyncio.wait({performance.ended})
        error = performance.ended.exception()
        if error is None:
            return CancelAnswer(id=job_id, status="COMPLETED")
        return CancelAnswer(id=job_id, status="CANCELLED" if isinstance(error, Stopped) else "FAILED")

    return router
