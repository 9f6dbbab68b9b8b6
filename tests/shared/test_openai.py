"""OpenAI's API as jobs carry it: requests, events, errors, models."""

import json

import pytest
from pydantic import ValidationError

from shared import openai
from shared.errors import ENDINGS, Cancelled, InvalidInput, NotFound, OutOfMemory, QueueFull


@pytest.mark.parametrize(("body", "streams"), [({"stream": True}, True), ({"stream": "yes"}, False), ({}, False)])
def test_a_request_streams_where_it_says_so(body: dict[str, object], streams: bool) -> None:
    assert openai.Request(route="/v1/completions", body=body).stream is streams


def test_a_request_is_for_a_route_there_is() -> None:
    with pytest.raises(ValidationError, match="route"):
        openai.Request.model_validate({"route": "/v1/images", "body": {}})


def test_an_event_is_one_line_of_json_whatever_is_in_it() -> None:
    event = openai.event({"text": "日\n\n"})
    assert event.endswith("\n\n")
    assert event.count("\n") == 2
    assert json.loads(event.removeprefix("data: ")) == {"text": "日\n\n"}


@pytest.mark.parametrize(
    ("ending", "kind", "code", "status"),
    [
        (InvalidInput("no"), "invalid_request_error", "invalid_input", 400),
        (NotFound("no", openai_code="model_not_found"), "not_found_error", "model_not_found", 404),
        (QueueFull("no"), "rate_limit_error", "queue_full", 429),
        (OutOfMemory("no"), "server_error", "out_of_memory", 503),
        (Cancelled("no"), "server_error", "cancelled", 499),
    ],
)
def test_an_ending_has_openais_type_and_its_status(
    ending: InvalidInput | Cancelled, kind: str, code: str, status: int
) -> None:
    assert isinstance(ending, ENDINGS)
    body = openai.error(ending)
    assert body == {"error": {"message": "no", "type": kind, "param": None, "code": code}}
    assert openai.status_of(body) == status


def test_models_are_listed_and_found_by_their_whole_id() -> None:
    listed = openai.models("/v1/models", ["a/b", "c"])
    assert listed is not None
    assert [known["id"] for known in listed["data"]] == ["a/b", "c"]
    assert openai.models("/v1/models/a/b", ["a/b", "c"]) == listed["data"][0]
    with pytest.raises(NotFound, match="no model 'a'; there are: a/b, c"):
        openai.models("/v1/models/a", ["a/b", "c"])


@pytest.mark.parametrize("route", ["/v1/completions", "/v1/modelsx", ""])
def test_other_routes_are_not_about_models(route: str) -> None:
    assert openai.models(route, ["a"]) is None
