"""Turns the JSON that an answer must be into a grammar for llama.cpp, checked before it is used."""

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from shared.errors import InvalidInput

# One way to space what json.dumps writes: with any, a model may go on writing spaces until its tokens are used up.
SPACING = {"item_separator": ", ", "key_separator": ": ", "whitespace_flexible": False}
MAX_SCHEMA = 50_000  # characters; while a larger one is read, the other jobs' texts stand still for seconds
MOST_REPEATS = 10_000  # more cost llama.cpp gigabytes, or end its process; no context has room for them
REPEATS = ("minItems", "maxItems", "minProperties", "maxProperties", "minLength")
HEAD = "%llguidance {}\nstart: %json "


def constrained(body: Mapping[str, Any]) -> dict[str, Any]:
    """A request whose `response_format` is a `grammar`; unchanged where there is none, or where tools come with it.

    Raises:
        InvalidInput: the schema is none, or has keywords that would not be kept.
    """
    rest = {name: value for name, value in body.items() if name not in ("response_format", "json_schema")}
    schema = _schema(body)
    if tools := body.get("tools"):
        _checked_text([tools, schema])  # llama.cpp makes one grammar of both
        return dict(body)
    if schema is None:
        return rest
    return {**rest, "grammar": grammar(schema)}


def grammar(schema: Any) -> str:
    """The grammar of a JSON schema, as llama.cpp's LLGuidance reads it.

    llama.cpp itself only logs what is wrong with a schema, and then answers without it.

    Raises:
        InvalidInput: naming what is wrong.
    """
    import llguidance

    spaced = {**schema, "x-guidance": SPACING} if isinstance(schema, dict) else schema
    written = HEAD + _checked_text(spaced)
    if complaint := llguidance.LLMatcher.validate_grammar(written):
        reason = complaint.partition("failed to compile JSON schema: ")[2] or complaint
        raise InvalidInput(f"response_format: {reason.splitlines()[0][:300]}")
    return written


def _checked_text(schema: Any) -> str:
    try:
        text = json.dumps(schema)
        _check_repeats(schema)
    except RecursionError as exc:
        raise InvalidInput("response_format: the schema is nested too deeply") from exc
    if len(text) > MAX_SCHEMA:
        raise InvalidInput(f"response_format: the schema has {len(text)} characters; the most are {MAX_SCHEMA}")
    return text


class Follower:
    """Follows a text as it is written, and ends it where it leaves its grammar.

    llama.cpp drops a grammar that turns out too complex in the middle of an answer, and only logs that.
    """

    def __init__(self, grammar: str) -> None:
        import llguidance

        self._matcher = llguidance.LLMatcher(_bytes(), grammar, log_level=0)

    def read(self, piece: str) -> None:
        """Take the next piece.

        Raises:
            InvalidInput: the grammar does not allow it, so the schema is not kept.
        """
        data = list(piece.encode())
        if self._matcher.is_error() or self._matcher.try_consume_tokens(data) < len(data):
            raise InvalidInput(
                "response_format: the schema is too complex to be kept; use fewer or required properties"
            )


@cache
def _bytes() -> Any:
    """A tokenizer whose tokens are bytes: a grammar is one of texts, however they are cut."""
    import llguidance

    return llguidance.LLTokenizer("byte")


def _check_repeats(schema: Any) -> None:
    for name, value in schema.items() if isinstance(schema, dict) else ():
        if name in REPEATS and isinstance(value, int | float) and value > MOST_REPEATS:
            raise InvalidInput(f"response_format: {name} is {value:.7g}; the most is {MOST_REPEATS}")
        _check_repeats(value)
    for value in schema if isinstance(schema, list) else ():
        _check_repeats(value)


def _schema(body: Mapping[str, Any]) -> Any:
    """What OpenAI's `response_format`, or llama.cpp's own `json_schema`, asks for; None for any text."""
    if body.get("json_schema") is not None:
        return body["json_schema"]
    wanted = body.get("response_format")
    if wanted is None:
        return None
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    if kind == "text":
        return None
    if kind == "json_object":
        return wanted.get("schema", {"type": "object"})
    if kind == "json_schema" and isinstance(wanted.get("json_schema"), dict) and "schema" in wanted["json_schema"]:
        return wanted["json_schema"]["schema"]
    shape = '{"type": "json_schema", "json_schema": {"schema": {...}}}'
    raise InvalidInput(f"response_format: send {shape}, or the type json_object, or text")
