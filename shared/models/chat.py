"""Reads what llama.cpp's server streams: as text, as OpenAI's events, or put together as OpenAI's whole answer."""

from collections.abc import Callable, Mapping
from typing import Any

from shared import openai
from shared.models.gguf import Chunk
from shared.schemas import Context

TextOf = Callable[[Mapping[str, Any]], str | None]
COUNTED = {"stream_options": {"include_usage": True}}  # tokens are to be counted in any case
NOT_OPENAIS = ("timings", "system_fingerprint")  # a stream is kept whole, and these are a third of it
OBJECTS = {"chat.completion.chunk": "chat.completion"}


def spoken(choice: Mapping[str, Any]) -> str | None:
    """The text in a chunk of a chat."""
    text: str | None = choice["delta"].get("content")
    return text


def written(choice: Mapping[str, Any]) -> str | None:
    """The text in a chunk of a completion."""
    text: str | None = choice["text"]
    return text


class Reader:
    """Hands the chunks of one answer on as pieces of text, and tells how it ended."""

    def __init__(self, ctx: Context, text_of: TextOf, most: int) -> None:
        """Args: `most` is how many tokens the answer may have."""
        self._ctx = ctx
        self._text_of = text_of
        self._most = most
        self._reason = "stop"

    def __call__(self, chunk: Chunk) -> None:
        """Take the next chunk; raises what the context raises."""
        self._ctx.check()
        for choice in chunk.get("choices", ()):
            if piece := self._text_of(choice):
                self._ctx.text(piece, most=self._most)
            self._reason = choice.get("finish_reason") or self._reason
        tell(chunk, self._reason, self._ctx)


def tell(chunk: Chunk, reason: str, ctx: Context) -> None:
    """What the last chunk says about the answer, to the context: tokens, speed."""
    if usage := chunk.get("usage"):
        counts = {name: usage[name] for name in ("prompt_tokens", "completion_tokens", "total_tokens")}
        ctx.finish(reason, counts)
    if timings := chunk.get("timings"):
        ctx.note(
            cached_prompt_tokens=timings["cache_n"],
            prompt_tokens_per_s=round(timings["prompt_per_second"], 1),
            tokens_per_s=round(timings["predicted_per_second"], 1),
        )


def forward(chunk: Chunk, ctx: Context, *, usage: bool) -> None:
    """Hand a chunk on as an event; the one that only counts tokens where the client asked for `usage`."""
    ctx.check()
    if "prompt_progress" in chunk:
        return
    tell(chunk, "stop", ctx)
    if chunk.get("choices") or usage:
        choices = [_as_openai(choice) for choice in chunk.get("choices", ())]
        rest = {name: value for name, value in chunk.items() if name not in NOT_OPENAIS}
        ctx.text(openai.event({**rest, "choices": choices}))


class Answer:
    """A whole answer in OpenAI's shape, put together from its chunks; so a stop reaches it within a token."""

    def __init__(self) -> None:
        self._head: dict[str, Any] = {}
        self._choices: dict[int, dict[str, Any]] = {}

    def take(self, chunk: Chunk, ctx: Context) -> None:
        """Add a chunk; raises what the context raises."""
        ctx.check()
        if "prompt_progress" in chunk:
            return
        self._head.update({name: value for name, value in chunk.items() if name != "choices"})
        for choice in chunk["choices"]:
            merge(self._choices.setdefault(choice["index"], {}), _as_openai(choice))
        tell(chunk, "stop", ctx)

    def body(self) -> dict[str, Any]:
        """The answer."""
        choices = [_whole(self._choices[index]) for index in sorted(self._choices)]
        kind = self._head["object"]
        return {**self._head, "object": OBJECTS.get(kind, kind), "choices": choices}


def _as_openai(choice: Mapping[str, Any]) -> dict[str, Any]:
    """A completion's choice with its log probabilities in OpenAI's shape, which is not that of its chats."""
    listed = (choice.get("logprobs") or {}).get("content")
    if listed is None or "text" not in choice:
        return dict(choice)
    shaped = {
        "tokens": [each["token"] for each in listed],
        "token_logprobs": [each["logprob"] for each in listed],
        "top_logprobs": [{top["token"]: top["logprob"] for top in each["top_logprobs"]} for each in listed],
    }
    return {**choice, "logprobs": shaped}


def merge(into: dict[str, Any], delta: Mapping[str, Any]) -> None:
    """Add a delta as OpenAI's clients do: texts grow, lists grow or are matched by `index`, the rest is replaced."""
    for name, value in delta.items():
        known = into.get(name)
        if value is None:
            into.setdefault(name, None)
        elif (
            isinstance(known, str) and isinstance(value, str) and name not in ("role", "id", "type", "finish_reason")
        ):
            into[name] = known + value
        elif isinstance(value, Mapping):
            into[name] = known if isinstance(known, dict) else {}
            merge(into[name], value)
        elif isinstance(value, list):
            into[name] = known if isinstance(known, list) else []
            _merge_lists(into[name], value)
        else:
            into[name] = value


def _merge_lists(into: list[Any], items: list[Any]) -> None:
    for item in items:
        if not isinstance(item, dict) or "index" not in item:
            into.append(item)
            continue
        same = next((known for known in into if known.get("index") == item["index"]), None)
        if same is None:
            into.append(same := {})
        merge(same, item)


def _whole(choice: dict[str, Any]) -> dict[str, Any]:
    """A choice with its deltas as the message that they make."""
    if "delta" not in choice:
        return choice
    message = choice.pop("delta")
    for call in message.get("tool_calls") or ():
        call.pop("index", None)
    return {**choice, "message": message}
