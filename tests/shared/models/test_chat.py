"""What llama.cpp streams: as text, as events, and put together as one answer."""

import json
from typing import Any

import pytest

from shared.errors import Cancelled
from shared.models import chat
from tests.shared.models.recorder import Recorder

HEAD = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "ours/text"}
PROGRESS = {**HEAD, "choices": [{"index": 0, "delta": {"role": "assistant"}}], "prompt_progress": {"total": 3}}
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
LAST = {**HEAD, "choices": [], "usage": USAGE}
TIMINGS = {"cache_n": 1, "prompt_per_second": 123.456, "predicted_per_second": 78.91}


def delta(index: int = 0, finish_reason: str | None = None, **delta: Any) -> dict[str, Any]:
    return {**HEAD, "choices": [{"index": index, "delta": delta, "finish_reason": finish_reason}]}


SPOKEN = [
    PROGRESS,
    delta(role="assistant", content=None),
    delta(content="A "),
    delta(content="circle"),
    {**delta(finish_reason="length"), "timings": TIMINGS},
    LAST,
]


def put_together(*chunks: dict[str, Any], ctx: Recorder | None = None) -> dict[str, Any]:
    answer, ctx = chat.Answer(), ctx or Recorder()
    for chunk in chunks:
        answer.take(chunk, ctx)
    return answer.body()


class Stopped(Recorder):
    """A job that was told to stop."""

    def check(self) -> None:
        raise Cancelled("asked")


def test_a_reader_hands_on_the_text_and_tells_how_it_ended() -> None:
    ctx = Recorder()
    reader = chat.Reader(ctx, chat.spoken, 100)
    for chunk in SPOKEN:
        reader(chunk)
    assert ctx.pieces == ["A ", "circle"]
    assert (ctx.finish_reason, ctx.usage) == ("length", USAGE)
    assert ctx.facts == {"cached_prompt_tokens": 1, "prompt_tokens_per_s": 123.5, "tokens_per_s": 78.9}


def test_a_reader_of_completions_hands_on_their_text() -> None:
    ctx = Recorder()
    reader = chat.Reader(ctx, chat.written, 100)
    for text in ("a", "", "b"):
        reader({"choices": [{"index": 0, "text": text, "finish_reason": None}]})
    assert ctx.pieces == ["a", "b"]


def test_a_stop_is_noticed_at_every_chunk_also_while_the_prompt_is_read() -> None:
    for take in (
        chat.Reader(Stopped(), chat.spoken, 5),
        lambda chunk: chat.forward(chunk, Stopped(), usage=False),
        lambda chunk: chat.Answer().take(chunk, Stopped()),
    ):
        with pytest.raises(Cancelled):
            take(PROGRESS)


@pytest.mark.parametrize("usage", [False, True])
def test_events_are_the_chunks_as_openai_has_them_and_the_usage_where_it_was_asked_for(usage: bool) -> None:
    ctx = Recorder()
    for chunk in SPOKEN:
        chat.forward({**chunk, "system_fingerprint": "b0"}, ctx, usage=usage)
    assert all(piece.startswith("data: ") and piece.endswith("\n\n") for piece in ctx.pieces)
    events = [json.loads(piece.removeprefix("data: ")) for piece in ctx.pieces]
    expected = [{name: value for name, value in chunk.items() if name != "timings"} for chunk in SPOKEN[1:]]
    assert events == (expected if usage else expected[:-1])
    assert ctx.usage == USAGE
    assert ctx.facts["tokens_per_s"] == 78.9


def test_an_answer_is_put_together() -> None:
    ctx = Recorder()
    body = put_together(*SPOKEN, ctx=ctx)
    assert body["object"] == "chat.completion"
    assert (body["id"], body["model"], body["usage"]) == ("chatcmpl-1", "ours/text", USAGE)
    message = {"role": "assistant", "content": "A circle"}
    assert body["choices"] == [{"index": 0, "message": message, "finish_reason": "length"}]
    assert ctx.usage == USAGE


def written(text: str, logprob: float | None = None, **more: Any) -> dict[str, Any]:
    """A chunk of a completion, as llama.cpp sends it."""
    seen = {"token": text, "logprob": logprob, "bytes": [1], "top_logprobs": [{"token": "x", "logprob": -0.1}]}
    logprobs = None if logprob is None else {"content": [seen]}
    choice = {"index": 0, "text": text, "logprobs": logprobs, "finish_reason": "stop" if more else None}
    return {"object": "text_completion", "choices": [choice], **more}


def test_a_completion_is_put_together() -> None:
    body = put_together(written("a"), written("b"), written("", usage=USAGE))
    expected = {"index": 0, "text": "ab", "logprobs": None, "finish_reason": "stop"}
    assert body == {"object": "text_completion", "choices": [expected], "usage": USAGE}


def test_the_likelihoods_of_a_completion_have_openais_older_shape_whole_and_in_events() -> None:
    chunks = [written("a", -0.5), written("b", -2.0), written("", usage=USAGE)]
    (choice,) = put_together(*chunks)["choices"]
    assert choice["text"] == "ab"
    assert choice["logprobs"] == {
        "tokens": ["a", "b"],
        "token_logprobs": [-0.5, -2.0],
        "top_logprobs": [{"x": -0.1}, {"x": -0.1}],
    }
    ctx = Recorder()
    chat.forward(chunks[0], ctx, usage=False)
    (event,) = [json.loads(piece.removeprefix("data: ")) for piece in ctx.pieces]
    shaped = {"tokens": ["a"], "token_logprobs": [-0.5], "top_logprobs": [{"x": -0.1}]}
    assert event["choices"][0]["logprobs"] == shaped


def test_tool_calls_in_fragments_are_put_together() -> None:
    def call(index: int, **function: str) -> dict[str, Any]:
        head = {"id": f"call-{index}", "type": "function"} if "name" in function else {}
        return {"index": index, **head, "function": function}

    body = put_together(
        delta(role="assistant", content=None),
        delta(tool_calls=[call(0, name="draw", arguments="")]),
        delta(tool_calls=[call(0, arguments='{"shape": ')]),
        delta(tool_calls=[call(0, arguments='"circle"}')]),
        delta(tool_calls=[call(1, name="wait", arguments="{}")]),
        delta(finish_reason="tool_calls"),
    )
    (choice,) = body["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    assert choice["message"]["tool_calls"] == [
        {"id": "call-0", "type": "function", "function": {"name": "draw", "arguments": '{"shape": "circle"}'}},
        {"id": "call-1", "type": "function", "function": {"name": "wait", "arguments": "{}"}},
    ]


def test_the_likelihoods_of_tokens_are_put_together() -> None:
    def chunk(text: str) -> dict[str, Any]:
        seen = {"token": text, "logprob": -0.5, "bytes": [1], "top_logprobs": [{"token": text, "logprob": -0.5}]}
        return {**HEAD, "choices": [{"index": 0, "delta": {"content": text}, "logprobs": {"content": [seen]}}]}

    (choice,) = put_together(chunk("a"), chunk("b"))["choices"]
    assert [entry["token"] for entry in choice["logprobs"]["content"]] == ["a", "b"]
    assert choice["message"]["content"] == "ab"


def test_what_is_known_is_not_lost_to_null() -> None:
    known: dict[str, Any] = {}
    for piece in ({"a": "x"}, {"a": None, "b": None}, {"a": "y", "b": "z"}):
        chat.merge(known, piece)
    assert known == {"a": "xy", "b": "z"}


def test_chunks_are_not_changed() -> None:
    before = json.dumps(SPOKEN)
    put_together(*SPOKEN)
    assert json.dumps(SPOKEN) == before
