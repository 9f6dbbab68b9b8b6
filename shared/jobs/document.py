"""The synchronous routes as an OpenAPI document tells of them, from the handlers' own parameters.

Names are those of Livepeer's runner, so that clients generated from either document have the same.
"""

from collections.abc import Iterable, Mapping
from functools import cache

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from shared.jobs import bodies, llm
from shared.jobs.dialect import dialect_of
from shared.jobs.request_schemas import COMPONENTS, Schema, of_params, operation_id, plain
from shared.media.video import VideoParams
from shared.schemas import Handler, Params

JSON, MULTIPART, URLENCODED = "application/json", "multipart/form-data", "application/x-www-form-urlencoded"
FILES = {"image": ("image/png", "image/webp", "image/jpeg"), "video": ("video/mp4",)}
ERRORS = {
    400: "No such model, or a body that cannot be read",
    401: "No key, or a wrong one",
    404: "A workflow names a pipeline that is not there",
    408: "The body stopped coming, or came too slowly",
    413: "A file or a result is too large",
    429: "The queue is full",
    499: "The job was cancelled",
    500: "The worker failed",
    502: "The result could not be delivered",
    503: "The model cannot be had, memory is short, or the worker stops",
    504: "The job took too long",
}
RETRY_AFTER = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}}
CHALLENGE = {"WWW-Authenticate": {"description": "`Bearer`.", "schema": {"type": "string"}}}


def describe(app: FastAPI, handlers: Mapping[str, Handler]) -> None:
    """Let an application with the routes of these handlers answer its whole document at /openapi.json."""

    @cache
    def document() -> Schema:
        made = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        own = components(handlers)
        given = made.setdefault("components", {})
        made["components"] = {kind: {**given.get(kind, {}), **own[kind]} for kind in own}
        found: Schema = plain(made)
        return found

    app.openapi = document  # type: ignore[method-assign] # as FastAPI's documentation does


def operation(route: str, handler: Handler | None) -> Schema:
    """The operation of one route: that of a pipeline's handler, or `/llm`."""
    params = handler.params if handler else llm.LLMRequest
    return {
        "operationId": operation_id(route),
        "summary": route.replace("-", " ").capitalize() if handler else "LLM",
        "description": (params.__doc__ or "").strip(),
        "requestBody": {"required": True, "content": _request(route, params)},
        "responses": {"200": _success(route, handler), **errors()},
        "security": [{"HTTPBearer": []}],
    }


def components(handlers: Mapping[str, Handler]) -> Schema:
    """`components` of the document, for what the operations refer to."""
    said: list[type[BaseModel]] = [*bodies.ALL, llm.LLMResponse]
    _, answers = models_json_schema([(body, "serialization") for body in said], ref_template=f"{COMPONENTS}{{model}}")
    schemas: Schema = {**answers["$defs"], **of_params(llm.NAME, llm.LLMRequest)}
    for pipeline, handler in handlers.items():
        schemas |= of_params(pipeline, handler.params)
    bearer = {"type": "http", "scheme": "bearer", "description": "AUTH_TOKEN, where the worker has one."}
    return {"schemas": schemas, "securitySchemes": {"HTTPBearer": bearer}}


def errors() -> Schema:
    """The answers of a job that has no result."""
    found = {str(status): _answer(text, JSON, _ref("HTTPError")) for status, text in ERRORS.items()}
    found["401"]["headers"] = CHALLENGE
    found["429"]["headers"] = found["503"]["headers"] = RETRY_AFTER
    found["422"] = _answer("A wrong field", JSON, _ref("HTTPValidationError"))
    return found


def _request(route: str, params: type[Params]) -> Schema:
    form = {"schema": _ref(f"Body_{operation_id(route)}")}
    return {JSON: {"schema": _ref(params.__name__)}, MULTIPART: form, URLENCODED: form}


def _success(route: str, handler: Handler | None) -> Schema:
    shapes = [_ref(body.__name__) for body in _bodies(route, handler)]
    answer = _answer("The result", JSON, shapes[0] if len(shapes) == 1 else {"anyOf": shapes})
    if handler is None or handler.stream:
        answer["content"]["text/event-stream"] = {}  # OpenAPI 3.1 has no words for what an event holds
        return answer
    for kind in sorted(_kinds(handler)):
        for media_type in FILES[kind]:
            answer["content"][media_type] = {"schema": {"type": "string", "format": "binary"}}
    return answer


def _bodies(route: str, handler: Handler | None) -> Iterable[type[BaseModel]]:
    if handler is None:
        return [llm.LLMResponse]
    if handler.stream:
        return [bodies.TextGenerationResponse]
    pictures = bodies.VideoResponse if dialect_of(route).frames else bodies.ImageResponse
    by_kind = {"image": pictures, "video": bodies.VideoFileResponse}
    return [by_kind[kind] for kind in sorted(_kinds(handler))]


def _kinds(handler: Handler) -> set[str]:
    """What a run may make, pictures or videos, as far as its parameters tell."""
    if handler.chains:
        return {"image", "video"}
    if not issubclass(handler.params, VideoParams):
        return {"image"}
    return {"image", "video"} if "image_format" in handler.params.model_fields else {"video"}


def _answer(description: str, media_type: str, schema: Schema) -> Schema:
    return {"description": description, "content": {media_type: {"schema": schema}}}


def _ref(name: str) -> Schema:
    return {"$ref": COMPONENTS + name}
