"""text-generation by OpenAI's routes, on the demo model."""

import json
from typing import Any

import pytest

from shared.errors import Cancelled, InvalidInput
from shared.models.gguf import EMBEDDED_AT_ONCE, TextModel
from shared.openai import DONE
from tests.handlers.writing import CHAT, MODEL, ask
from tests.shared.models.recorder import Recorder


def events(ctx: Recorder) -> list[dict[str, Any]]:
    assert ctx.pieces[-1] == DONE
    assert all(piece.startswith("data: ") and piece.endswith("\n\n") for piece in ctx.pieces)
    return [json.loads(piece.removeprefix("data: ")) for piece in ctx.pieces[:-1]]


def test_openais_chat_is_answered_whole_or_in_events(writer: TextModel) -> None:
    whole = ask(writer, "/v1/chat/completions", messages=CHAT).body
    assert whole is not None
    (choice,) = whole["choices"]
    assert (whole["object"], whole["model"]) == ("chat.completion", MODEL)
    assert (choice["message"]["role"], choice["finish_reason"]) == ("assistant", "stop")
    assert "four" in choice["message"]["content"]
    assert whole["usage"]["total_tokens"] > whole["usage"]["prompt_tokens"] > 0

    streamed = ask(writer, "/v1/chat/completions", messages=CHAT, stream=True)
    chunks = events(streamed)
    said = "".join(c["delta"].get("content") or "" for chunk in chunks for c in chunk["choices"])
    assert said == choice["message"]["content"]
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert not [chunk for chunk in chunks if chunk.get("usage") or "prompt_progress" in chunk]
    assert streamed.usage == {name: whole["usage"][name] for name in streamed.usage}


def test_openais_completions_are_answered_whole_or_in_events(writer: TextModel) -> None:
    whole = ask(writer, "/v1/completions", prompt="A square has", max_tokens=5).body
    assert whole is not None
    assert (whole["object"], whole["usage"]["completion_tokens"]) == ("text_completion", 5)
    chunks = events(ask(writer, "/v1/completions", prompt="A square has", max_tokens=5, stream=True))
    assert "".join(c["text"] for chunk in chunks for c in chunk["choices"]) == whole["choices"][0]["text"]


def test_the_usage_is_streamed_where_it_is_asked_for(writer: TextModel) -> None:
    more: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
    *_, last = events(ask(writer, "/v1/chat/completions", messages=CHAT, **more))
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] > 0


def test_openais_embeddings_are_answered(writer: TextModel) -> None:
    body = ask(writer, "/v1/embeddings", input=["a red circle", "a blue square"]).body
    assert body is not None
    assert [entry["index"] for entry in body["data"]] == [0, 1]
    assert body["object"] == "list"


class Looked(Recorder):
    """Counts how often a run looks whether it is to stop, and stops it at look `last`."""

    def __init__(self, last: int = 0) -> None:
        super().__init__()
        self.looks = 0
        self._last = last

    def check(self) -> None:
        self.looks += 1
        if self.looks == self._last:
            raise Cancelled("asked")


def test_many_embeddings_can_be_stopped(writer: TextModel) -> None:
    ctx = Looked(3)
    with pytest.raises(Cancelled):
        ask(writer, "/v1/embeddings", ctx, input=["a red circle"] * 2000)
    assert (ctx.looks, ctx.body) == (3, None)


def test_many_embeddings_are_numbered_and_counted_as_one(writer: TextModel) -> None:
    ctx = Looked()
    body = ask(writer, "/v1/embeddings", ctx, input=["a red circle"] * 2000).body
    one = ask(writer, "/v1/embeddings", input="a red circle").body
    assert body
    assert one
    assert ctx.looks == -(-2000 // EMBEDDED_AT_ONCE)
    assert [entry["index"] for entry in body["data"]] == list(range(2000))
    assert body["usage"] == {name: 2000 * count for name, count in one["usage"].items()}


def test_a_text_too_long_to_embed_is_refused_with_both_numbers(writer: TextModel) -> None:
    with pytest.raises(InvalidInput, match=r"the text has 6000 tokens, and one to embed may have 512 here"):
        ask(writer, "/v1/embeddings", input=["short", "x " * 3000])


@pytest.mark.parametrize("stream", [False, True])
def test_the_likelihoods_of_a_completion_have_openais_older_shape(writer: TextModel, stream: bool) -> None:
    ctx = ask(writer, "/v1/completions", prompt="A square has", max_tokens=5, logprobs=2, stream=stream)
    chunks = events(ctx) if stream else [ctx.body or {}]
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    seen = [choice["logprobs"] for choice in choices if choice["logprobs"]]
    tokens = [token for each in seen for token in each["tokens"]]
    assert len(tokens) == 5
    assert "".join(tokens) == "".join(choice["text"] for choice in choices)
    best = [top for each in seen for top in each["top_logprobs"]]
    own = [logprob for each in seen for logprob in each["token_logprobs"]]
    assert [len(top) for top in best] == [2] * 5
    assert own == [max(top.values()) for top in best]
    assert all(logprob <= 0 for logprob in own)


def test_openais_request_for_two_answers_is_refused(writer: TextModel) -> None:
    for route, body in (("/v1/chat/completions", {"messages": CHAT}), ("/v1/completions", {"prompt": "a"})):
        with pytest.raises(InvalidInput, match="n: Input should be 1"):
            ask(writer, route, **body, n=2)
