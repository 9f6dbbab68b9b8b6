"""What a queued job puts out: its result whole, or its text in pieces and what follows them."""

import json
from collections.abc import Iterator
from typing import Any

from shared import openai
from shared.errors import Ending
from shared.schemas import Envelope

PIECE_LIMIT = 900_000  # bytes of JSON; RunPod refuses pieces over 1 MB
DETAILS = ("usage", "finish_reason", "metrics", "receipt")


def is_openai(job_input: Any) -> bool:
    """Whether the job came by OpenAI's API."""
    return isinstance(job_input, dict) and job_input.get("openai_route") is not None


def wants_events(job_input: Any) -> bool:
    """Whether it is to be answered in server-sent events."""
    body = job_input.get("openai_input") if is_openai(job_input) else None
    return isinstance(body, dict) and body.get("stream") is True


def error_text(job_input: Any, ending: Ending) -> str:
    """An ending as a queued job's `error`: `code: message`, or JSON in OpenAI's shape for who asked by that API."""
    text = json.dumps(openai.error(ending)["error"]) if is_openai(job_input) else str(ending)
    return text.encode(errors="replace").decode()


def split(text: str) -> Iterator[str]:
    """The text in parts that a platform carries, each whole characters."""
    if len(json.dumps({"output": text}, ensure_ascii=False).encode()) <= PIECE_LIMIT:
        yield text
        return
    middle = len(text) // 2
    yield from split(text[:middle])
    yield from split(text[middle:])


def closing(job_input: Any, outcome: dict[str, Any], *, began: bool) -> Iterator[Any]:
    """What follows the text: the whole of it where none came in pieces, the details, or the error."""
    if "error" in outcome:
        if began and wants_events(job_input):
            yield openai.event({"error": json.loads(outcome["error"])})
        yield outcome
    elif "answer" in outcome:
        yield outcome["answer"]
    else:
        if not began:
            yield from split(outcome["text"])
        if not is_openai(job_input) and Envelope.split(job_input)[0].details:
            yield {name: outcome[name] for name in DETAILS}
