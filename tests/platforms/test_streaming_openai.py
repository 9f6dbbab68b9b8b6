"""OpenAI's API inside jobs, as a worker streams it or answers it whole."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.platforms.lab import until
from tests.platforms.stage import Stage


def test_openais_answer_is_the_only_piece(stage: Stage) -> None:
    answer = stage.ask("completions", {"prompt": "to be or not"})
    assert answer.json() == {"choices": [{"text": "to be or not"}]}


def test_openais_models_are_the_only_piece(stage: Stage) -> None:
    listed = stage.ask("models").json()
    assert [model["object"] for model in listed["data"]] == ["model"]


def openai_job(stage: Stage, **body: Any) -> str:
    """A request to OpenAI's API as an endpoint makes it a job."""
    return stage.client.submit({"openai_route": "/v1/completions", "openai_input": body})


def ended(stage: Stage, job: str) -> dict[str, Any]:
    """The job's state at its end."""
    until(lambda: stage.status(job) in ("COMPLETED", "FAILED"), "the job does not end")
    return stage.client.status(job)


def test_openais_events_pass_as_they_are(stage: Stage) -> None:
    job = openai_job(stage, prompt="to be", stream=True)
    events = "".join(stage.client.wait(job)).split("\n\n")
    assert [json.loads(event.removeprefix("data: ")) for event in events[:-2]] == [
        {"choices": [{"text": "to"}]},
        {"choices": [{"text": "be"}]},
    ]
    assert events[-2:] == ["data: [DONE]", ""]


@pytest.mark.parametrize("stream", [True, False])
def test_an_error_reaches_openais_clients_in_their_shape(stage: Stage, stream: bool) -> None:
    job = openai_job(stage, prompt="to be", refuse_at=0, stream=stream)
    error = json.loads(ended(stage, job)["error"])
    assert error["message"] == "prompt: this word is not said"
    assert error["type"] == "invalid_request_error"
    assert stage.pieces(job) == []


def test_an_error_in_the_middle_is_an_event_too(stage: Stage) -> None:
    job = openai_job(stage, prompt="to be or", refuse_at=2, stream=True)
    error = json.loads(ended(stage, job)["error"])
    *_, last = "".join(stage.pieces(job)).strip().split("\n\n")
    assert json.loads(last.removeprefix("data: ")) == {"error": error}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A worker that serves other pipelines too."""
    with Stage(tmp_path_factory.mktemp("mixed"), pipeline=None) as stage:
        yield stage


def test_a_worker_of_many_pipelines_answers_text_whole(mixed: Stage) -> None:
    result = mixed.client.wait(mixed.tell())
    assert result.keys() == {"text", "usage", "finish_reason", "metrics", "receipt"}
    assert (result["text"], result["finish_reason"]) == ("one two three", "stop")
    assert "metrics" in mixed.client.run({"pipeline": "sleep", "ms": 1})


def test_a_worker_of_many_pipelines_answers_openais_api_but_does_not_stream_it(mixed: Stage) -> None:
    assert mixed.client.wait(openai_job(mixed, prompt="to be")) == {"choices": [{"text": "to be"}]}
    error = json.loads(ended(mixed, openai_job(mixed, prompt="to be", stream=True))["error"])
    assert "without stream" in error["message"]
    assert error["code"] == "invalid_input"
