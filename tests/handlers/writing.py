"""One run of text-generation as tests ask for it: a job of our own, or a request of OpenAI's API."""

from typing import Any

from handlers.text_generation import TextGenerationParams, handler
from shared.models.gguf import TextModel
from shared.openai import Request
from tests.shared.models.recorder import Recorder

MODEL = "demo/text-generation"
SQUARE = "How many corners does a square have?"
CHAT = [{"role": "user", "content": SQUARE}]


def write(model: TextModel, ctx: Recorder | None = None, **params: Any) -> Recorder:
    """One run, greedy unless more is said."""
    ctx = ctx or Recorder()
    handler.run(model, TextGenerationParams(**{"temperature": 0, "max_new_tokens": 60, **params}), ctx)
    return ctx


def text(ctx: Recorder) -> str:
    return "".join(ctx.pieces)


def ask(model: TextModel, route: str, ctx: Recorder | None = None, **body: Any) -> Recorder:
    """One request of OpenAI's API, greedy unless more is said."""
    assert handler.openai
    ctx = ctx or Recorder()
    greedy: dict[str, Any] = {} if route == "/v1/embeddings" else {"temperature": 0}
    handler.openai.run(model, Request.model_validate({"route": route, "body": {**greedy, **body}}), ctx)
    return ctx
