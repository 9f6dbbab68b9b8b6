"""POST /warm: load a model ahead of its first job."""

from collections.abc import Awaitable, Callable

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.errors import InvalidInput
from shared.jobs.document import JSON, errors
from shared.jobs.request_schemas import Schema, plain
from shared.jobs.wire import MIB, parse_json, query_int, read_body, unless_gone

MAX_WAIT_MS = 300_000
WAIT_MS = 90_000

Warm = Callable[[str, str | None, float], Awaitable[bool]]
"""Has a pipeline's model warm, the default one for None; False where it is not within these seconds, and comes later.

Raises JobError where it cannot be had.
"""


class Wanted(BaseModel):
    """A model, named as a job names it."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    pipeline: str = Field(max_length=128, description="The pipeline that is to run it.")
    model_id: str | None = Field(None, max_length=512, description="The pipeline's first model when not given.")


class Warmth(BaseModel):
    """Where a model stands."""

    status: str = Field(description="WARM, or LOADING where it was not warm within `wait`; it goes on.")


def warm_router(warm: Warm) -> APIRouter:
    """`/warm`; whoever mounts it asks for the token."""
    router = APIRouter()

    async def route(request: Request) -> Response:
        return await answer(request, warm)

    router.add_api_route("/warm", route, methods=["POST"], response_class=Response, openapi_extra=_operation())
    return router


async def answer(request: Request, warm: Warm) -> Response:
    """200 with the model warm, 202 where it is not within `wait` milliseconds.

    Raises:
        InvalidInput: the body names no model.
        JobError: as `warm`.
    """
    wanted = _wanted(parse_json(await read_body(request, MIB)))
    wait_ms = query_int(request, "wait", 0, MAX_WAIT_MS, WAIT_MS) or 0

    async def work() -> bool:
        return await warm(wanted.pipeline, wanted.model_id or None, wait_ms / 1000)

    is_warm = await unless_gone(request, work())
    return JSONResponse({"status": "WARM" if is_warm else "LOADING"}, 200 if is_warm else 202)


def _wanted(body: object) -> Wanted:
    try:
        return Wanted.model_validate(body)
    except ValidationError as exc:
        found = exc.errors(include_input=False, include_url=False, include_context=False)
        listed = [{"loc": list(e["loc"]), "msg": e["msg"], "type": e["type"]} for e in found]
        text = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'body'}: {e['msg']}" for e in found)
        raise InvalidInput(text, errors=listed) from exc


def _operation() -> Schema:
    def content(body: type[BaseModel]) -> Schema:
        return {JSON: {"schema": plain(body.model_json_schema())}}

    return {
        "operationId": "warm",
        "summary": "Warm",
        "description": "Load a model ahead of its first job.",
        "parameters": [
            {
                "name": "wait",
                "in": "query",
                "description": "Milliseconds.",
                "schema": {"type": "integer", "minimum": 0, "maximum": MAX_WAIT_MS, "default": WAIT_MS},
            }
        ],
        "requestBody": {"required": True, "content": content(Wanted)},
        "responses": {
            "200": {"description": "It is warm", "content": content(Warmth)},
            "202": {"description": "It is being loaded", "content": content(Warmth)},
            **errors(),
        },
        "security": [{"HTTPBearer": []}],
    }
