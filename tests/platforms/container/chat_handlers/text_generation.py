"""Repeat a chat word by word; a pipeline for tests, in place of the one that has a model."""

from typing import Any

from pydantic import Field

from shared.schemas import Context, Handler, Params


class EchoParams(Params):
    """A chat, and what else `/llm` passes on."""

    messages: list[dict[str, Any]] = Field(description="Repeated.")
    stream: bool = Field(True, description="Piece by piece.")
    max_new_tokens: int = Field(300, description="Without effect.")
    temperature: float = Field(0.8, description="Without effect.")
    top_p: float = Field(0.95, description="Without effect.")
    top_k: int = Field(40, ge=0, description="Without effect.")


def run(model: None, params: EchoParams, ctx: Context) -> None:
    """Say who said what; and fail where that is `fail`."""
    for message in params.messages:
        ctx.text(f"{message['role']}:")
        for word in str(message["content"]).split():
            ctx.text(f" {word}")
            if word == "fail":
                raise RuntimeError("it was told to")
    ctx.finish("stop", {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3})


handler = Handler(params=EchoParams, run=run, stream=True, torch=False)
