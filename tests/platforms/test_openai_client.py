"""OpenAI's own client against a real RunPod worker with the demo model."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
import requests

from tests.platforms.harness import until
from tests.studio import TextStudio

MODEL = "demo/text-generation"
CHAT: Any = {"model": MODEL, "messages": [{"role": "user", "content": "How many corners has a square?"}]}
ANSWER = "A square has four corners."
END = "1279"  # the token by which the demo model ends
ENDLESS: Any = {"model": MODEL, "prompt": "A red circle", "max_tokens": 1900, "logit_bias": {END: -100}}
COUNT: Any = {
    "type": "json_schema",
    "json_schema": {
        "name": "count",
        "schema": {
            "type": "object",
            "properties": {"corners": {"type": "integer", "minimum": 0, "maximum": 12}},
            "required": ["corners"],
            "additionalProperties": False,
        },
    },
}


@pytest.fixture
def client(text_studio: TextStudio) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=text_studio.openai_url, api_key=text_studio.endpoint.key, max_retries=0) as client:
        yield client


def test_chat(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(**CHAT)
    assert answer.choices[0].message.content == ANSWER
    assert (answer.choices[0].finish_reason, answer.model) == ("stop", MODEL)
    assert answer.usage
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_streamed_chat(client: openai.OpenAI) -> None:
    with client.chat.completions.create(**CHAT, stream=True, stream_options={"include_usage": True}) as stream:
        chunks = list(stream)
    said = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    assert len(said) > 1
    assert "".join(said) == ANSWER
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].usage
    assert chunks[-1].usage.completion_tokens >= len(said)


def test_a_stream_helper_of_the_client(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(**CHAT) as stream:
        assert stream.get_final_completion().choices[0].message.content == ANSWER


def test_completions(client: openai.OpenAI) -> None:
    whole = client.completions.create(model=MODEL, prompt="A square has", temperature=0, max_tokens=8)
    with client.completions.create(
        model=MODEL, prompt="A square has", temperature=0, max_tokens=8, stream=True
    ) as stream:
        pieces = "".join(chunk.choices[0].text for chunk in stream if chunk.choices)
    assert whole.choices[0].text == pieces != ""


def test_embeddings(client: openai.OpenAI) -> None:
    one, other = client.embeddings.create(model=MODEL, input=["a red circle", "a blue square"]).data
    assert len(one.embedding) == len(other.embedding) > 0
    assert one.embedding != other.embedding


def test_an_answer_by_a_schema(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(**CHAT, response_format=COUNT, max_tokens=40)
    said = json.loads(answer.choices[0].message.content or "")
    assert list(said) == ["corners"]
    assert 0 <= said["corners"] <= 12


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).owned_by == "pilotlight"
    with pytest.raises(openai.NotFoundError, match="no model 'other'"):
        client.models.retrieve("other")


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_that_is_too_long_is_a_bad_request(client: openai.OpenAI, stream: bool) -> None:
    long = [{"role": "user", "content": "a red circle and " * 3000}]
    with pytest.raises(openai.BadRequestError, match="tokens") as refused:
        client.chat.completions.create(**{**CHAT, "messages": long}, stream=stream)
    assert refused.value.code == "context_length_exceeded"


@pytest.mark.parametrize("stream", [False, True])
def test_what_else_is_refused(client: openai.OpenAI, stream: bool) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(**{**CHAT, "model": "other"}, stream=stream)
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError, match="n: Input should be 1"):
        client.chat.completions.create(**CHAT, n=2, stream=stream)
    with pytest.raises(openai.NotFoundError, match="no route"):
        client.post("/responses", body={"stream": stream}, cast_to=object)
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="wrong").chat.completions.create(**CHAT, stream=stream)


def test_a_stream_that_is_closed_stops_the_job(client: openai.OpenAI, text_studio: TextStudio) -> None:
    stream: Any = client.completions.create(**ENDLESS, stream=True)
    job = stream.response.headers["X-Request-Id"]
    next(iter(stream))
    stream.close()
    until(lambda: text_studio.client.status(job)["status"] == "CANCELLED")
    until(lambda: text_studio.client.health()["jobs"]["inProgress"] == 0)
    assert client.chat.completions.create(**CHAT).choices[0].message.content == ANSWER


def test_a_client_that_gives_up_stops_the_job(client: openai.OpenAI, text_studio: TextStudio) -> None:
    before = text_studio.client.health()["jobs"]["completed"]
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.05).completions.create(**ENDLESS)
    until(lambda: text_studio.client.health()["jobs"]["inProgress"] == 0)
    assert text_studio.client.health()["jobs"]["completed"] == before


def test_four_streams_at_once_are_each_whole(text_studio: TextStudio) -> None:
    questions = {
        "How many corners has a square?": ANSWER,
        "How many corners has a triangle?": "A triangle has three corners.",
    }

    async def ask(client: openai.AsyncOpenAI, question: str) -> str:
        messages: Any = [{"role": "user", "content": question}]
        async with await client.chat.completions.create(model=MODEL, messages=messages, stream=True) as stream:
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])

    async def ask_all() -> list[str]:
        url, key = text_studio.openai_url, text_studio.endpoint.key
        async with openai.AsyncOpenAI(base_url=url, api_key=key, max_retries=0) as client:
            return await asyncio.gather(*(ask(client, question) for question in [*questions, *questions]))

    assert asyncio.run(ask_all()) == [*questions.values(), *questions.values()]


def test_events_are_what_openai_sends(text_studio: TextStudio) -> None:
    """By plain requests: each event one line of JSON, and `[DONE]` at the end."""
    headers = {"Authorization": f"Bearer {text_studio.endpoint.key}"}
    body = requests.post(
        f"{text_studio.openai_url}/chat/completions", json={**CHAT, "stream": True}, headers=headers, timeout=30
    ).content
    *events, done, rest = body.split(b"\n\n")
    assert (done, rest) == (b"data: [DONE]", b"")
    chunks = [json.loads(event.removeprefix(b"data: ")) for event in events if not event.startswith(b":")]
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
