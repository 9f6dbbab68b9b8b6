"""`/llm`: chats as Livepeer's runner takes and answers them, run by the pipeline that writes text."""

import json
import time
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.errors import Ending, InvalidInput
from shared.job import Piece
from shared.jobs.sse import event
from shared.schemas import Params

PIPELINE = "text-generation"
NAME = "llm"  # what Livepeer calls it: of the route, and in PIPELINE
MOST_IN_LINE = 60_000  # bytes; Livepeer's node reads no event that is longer than 64 KiB
_quoted = json.encoder.encode_basestring


class LLMMessage(BaseModel):
    """One turn of a chat."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    role: str = Field(description="`system`, `user` or `assistant`.")
    content: str = Field(description="What was said.")


class LLMRequest(Params):
    """A chat to answer."""

    messages: list[LLMMessage] = Field(min_length=1, description="The chat so far.")
    model: str = Field("", description="A model of this worker; its first one when empty.")
    temperature: float = Field(0.7, ge=0, le=10, description="0 always takes the likeliest token.")
    max_tokens: int = Field(256, ge=1, le=1_000_000, description="Most tokens to write.")
    top_p: float = Field(1.0, gt=0, le=1, description="Choose among the likeliest tokens of this total share.")
    top_k: int = Field(-1, ge=-1, le=1_000_000, description="Choose among this many tokens; -1 for all.")
    stream: bool = Field(False, description="Answer in server-sent events.")

    def job_input(self) -> dict[str, Any]:
        """The same for the pipeline."""
        return {
            "pipeline": PIPELINE,
            "messages": [message.model_dump() for message in self.messages],
            "temperature": self.temperature,
            "max_new_tokens": self.max_tokens,
            "top_p": self.top_p,
            "top_k": max(0, self.top_k),
            "stream": self.stream,
            **({"model_id": self.model} if self.model else {}),
        }


class LLMTokenUsage(BaseModel):
    """How many tokens it took."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class LLMChoice(BaseModel):
    """The answer: a `message`, or the next piece of it as `delta`; `finish_reason` is empty until its end."""

    index: int
    finish_reason: str = ""
    delta: LLMMessage | None = None
    message: LLMMessage | None = None


class LLMResponse(BaseModel):
    """An answer, or an event of one."""

    id: str
    model: str
    created: int = Field(description="Seconds since the epoch.")
    usage: LLMTokenUsage
    choices: list[LLMChoice]
    metrics: dict[str, Any] | None = Field(None, description="Where its time went.")
    receipt: dict[str, Any] | None = Field(None, description="What was run, signed where a key is set.")


def read(given: Mapping[str, Any]) -> LLMRequest:
    """The request.

    Raises:
        InvalidInput: with every field that is wrong.
    """
    try:
        return LLMRequest.model_validate(given)
    except ValidationError as exc:
        errors = [
            {"loc": list(e["loc"]), "msg": e["msg"], "type": e["type"]}
            for e in exc.errors(include_input=False, include_url=False, include_context=False)
        ]
        raise InvalidInput("the request is not one of /llm", errors=errors) from exc


class Chat:
    """Writes the answer to one request, whole or as events; every event has a choice, as Livepeer's node expects."""

    comments = False

    def __init__(self, answer_id: str, model: str) -> None:
        self._head = {"id": answer_id, "model": model, "created": int(time.time())}
        told = json.dumps({**self._head, "usage": _usage(None)}, separators=(",", ":"))[:-1]
        self._before = (
            f'data: {told},"choices":[{{"index":0,"finish_reason":"","delta":{{"role":"assistant","content":'
        )
        self._after = "}}]}\n\n"

    def piece(self, piece: Piece) -> str:
        """See sse.Events."""
        return f"{self._before}{_quoted(str(piece.value))}{self._after}"

    def closing(self, result: Mapping[str, Any]) -> str:
        """See sse.Events; a receipt too long for one line of an event is left out, which `metrics` tells."""
        last = self._body(result, "delta", "")
        line = event(last)
        if len(line.encode()) <= MOST_IN_LINE:
            return line
        return event({**last, "metrics": {**result["metrics"], "receipt_too_long": True}, "receipt": None})

    def error(self, ending: Ending) -> str:
        """See sse.Events."""
        choices = [_choice("error", "delta", "")]
        return event({**self._head, "usage": _usage(None), "choices": choices, "error": ending.as_dict()})

    def whole(self, result: Mapping[str, Any]) -> dict[str, Any]:
        """The answer that does not stream."""
        return self._body(result, "message", result["text"])

    def _body(self, result: Mapping[str, Any], kind: Literal["delta", "message"], text: str) -> dict[str, Any]:
        return {
            **self._head,
            "usage": _usage(result.get("usage")),
            "choices": [_choice(result.get("finish_reason") or "stop", kind, text)],
            "metrics": result["metrics"],
            "receipt": result["receipt"],
        }


def _choice(reason: str, kind: Literal["delta", "message"], text: str) -> dict[str, Any]:
    return {"index": 0, "finish_reason": reason, kind: {"role": "assistant", "content": text}}


def _usage(counted: Mapping[str, int] | None) -> dict[str, int]:
    return {name: (counted or {}).get(name, 0) for name in ("prompt_tokens", "completion_tokens", "total_tokens")}
