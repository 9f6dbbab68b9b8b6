"""Reads what llama.cpp's server streams: as text, as OpenAI's events, or put together as OpenAI's whole answer."""

from collections.abc import Callable, Mapping
from typing import Any

from shared import openai
from shared.errors import InvalidInput
from shared.models.gguf import Chunk
from shared.schemas import Context

TextOf = Callable[[Mapping[str, Any]], str | None]
# Members of a request that are not its sender's to choose. Wrong triggers end llama.cpp's whole process; n_cmpl is n.
OURS = {"model", "id_slot", "return_progress", "stream", "n_cmpl"}
OURS |= {"grammar_lazy", "grammar_triggers", "preserved_tokens"}
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


def request(body: Mapping[str, Any]) -> dict[str, Any]:
    """An OpenAI request as it goes to llama.cpp, which is to count the tokens in any case.

    Raises:
        InvalidInput: it asks for more than one answer.
    """
    if body.get("n", 1) not in (1, None):
        raise InvalidInput("n: one answer a request; send several requests")
    kept = {name: value for name, value in body.items() if name not in OURS}
    options = body.get("stream_options")
    return {**kept, "stream_options": {**(options if isinstance(options, dict) else {}), "include_usage": True}}


def forward(chunk: Chunk, body: Mapping[str, Any], ctx: Context) -> None:
    """Hand a chunk on as an event, unless it is not for the client that sent `body`."""
    ctx.check()
    if "prompt_progress" in chunk:
        return
    tell(chunk, "stop", ctx)
    wants_usage = (body.get("stream_options") or {}).get("include_usage")
    if chunk.get("choices") or wants_usage:
        ctx.text(openai.event(chunk))


class Answer:
    """A whole answer in OpenAI's shape, put together from its chunks; so a stop reaches it within a token."""

    def __init__(self) -> None:
        self._head: dict[str, Any] = {}
        self._usage: dict[str, Any] = {}
        self._choices: dict[int, dict[str, Any]] = {}

    def take(self, chunk: Chunk, ctx: Context) -> None:
        """Add a chunk; raises what the context raises."""
        ctx.check()
        if "prompt_progress" in chunk:
            return
        usage = chunk.get("usage") or {}
        self._head.update({name: value for name, value in chunk.items() if name not in ("choices", "usage")})
        for name, count in usage.items():  # several prompts of one request are counted one by one
            known = self._usage.get(name)
            self._usage[name] = known + count if isinstance(known, int) else count
        for choice in chunk["choices"]:
            merge(self._choices.setdefault(choice["index"], {}), choice)
        tell(chunk, "stop", ctx)

    def body(self) -> dict[str, Any]:
        """The answer."""
        choices = [_whole(self._choices[index]) for index in sorted(self._choices)]
        kind = self._head["object"]
        return {**self._head, "object": OBJECTS.get(kind, kind), "choices": choices, "usage": self._usage}


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
