"""OpenAI's API as it passes through a job: the request, the models, errors and the events of a stream."""

import json
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from pydantic import Field

from shared.errors import Ending, NotFound, http_status_of
from shared.schemas import Params

Route = Literal["/v1/chat/completions", "/v1/completions", "/v1/embeddings"]
MODELS = "/v1/models"
DONE = "data: [DONE]\n\n"

# OpenAI's names for our codes: developers.openai.com/api/docs/guides/error-codes
TYPES = {
    "invalid_input": ("invalid_request_error", 400),
    "unauthorized": ("authentication_error", 401),
    "not_found": ("not_found_error", 404),
    "media_too_large": ("invalid_request_error", 400),
    "queue_full": ("rate_limit_error", 429),
}


class Request(Params):
    """A request to OpenAI's API, as an endpoint puts it into a job's input."""

    route: Route = Field(description="The path below the API's base.")
    body: dict[str, Any] = Field(description="The request's JSON.")

    @property
    def stream(self) -> bool:
        """Whether the answer is to come as events."""
        return self.body.get("stream") is True


def models(route: str, model_ids: Iterable[str]) -> dict[str, Any] | None:
    """The answer to `/v1/models` and `/v1/models/{id}`; None for any other route.

    Raises:
        NotFound: there is no model of that id.
    """
    if not f"{route}/".startswith(f"{MODELS}/"):
        return None
    known = {name: {"id": name, "object": "model", "created": 0, "owned_by": "pilotlight"} for name in model_ids}
    asked = route.removeprefix(MODELS).strip("/")
    if not asked:
        return {"object": "list", "data": list(known.values())}
    if asked not in known:
        raise NotFound(f"no model '{asked[:64]}'; there are: {', '.join(known) or 'none'}")
    return known[asked]


def event(body: Mapping[str, Any]) -> str:
    """One server-sent event."""
    return f"data: {json.dumps(body, ensure_ascii=False)}\n\n"


def error(ending: Ending) -> dict[str, Any]:
    """An ending as OpenAI's clients read it."""
    kind, _ = TYPES.get(ending.code, ("server_error", 500))
    code = ending.detail.get("openai_code", ending.code)
    return {"error": {"message": ending.message, "type": kind, "param": None, "code": code}}


def status_of(body: Mapping[str, Any]) -> int:
    """The HTTP status that belongs to an error of this shape."""
    by_type = dict(TYPES.values())
    return by_type.get(body["error"].get("type"), http_status_of(str(body["error"].get("code"))))
