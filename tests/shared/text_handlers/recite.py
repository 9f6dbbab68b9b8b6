"""Say given words, as a generator, and fail as told; a pipeline for tests, without a model or torch."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import ClassVar

from pydantic import Field

from shared import openai
from shared.schemas import Context, Handler, Params

failures: dict[str, int] = {}


class ReciteParams(Params):
    """What to say, and how it goes wrong."""

    OTHER_NAMES: ClassVar[Mapping[str, str]] = MappingProxyType({"max_tokens": "most", "text": "words"})

    words: list[str] = Field(["one ", "two"], description="What is said.")
    most: int = Field(100, ge=1, description="How many words at most.")
    stream: bool = Field(True, description="False: no pieces before the end.")
    fail_at: int | None = Field(None, description="The word before which the device's memory runs out.")
    fail: str = Field("", description="Counts failures by this name: there is one of each.")


def run(model: None, params: ReciteParams, ctx: Context) -> Iterator[str]:
    """Word by word."""
    ctx.effective(seed=7)
    said = params.words[: params.most]
    for n, word in enumerate(said):
        if n == params.fail_at and not failures.get(params.fail):
            failures[params.fail] = 1
            raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        yield word
    ctx.finish("stop" if said == params.words else "length", {"completion_tokens": len(said)})


def reply(model: None, request: openai.Request, ctx: Context) -> None:
    """Repeat the prompt, in OpenAI's shape."""
    prompt = str(request.body.get("prompt"))
    if request.stream:
        ctx.text(openai.event({"text": prompt}))
        ctx.text(openai.DONE)
    else:
        ctx.answer({"text": prompt})


handler = Handler(
    params=ReciteParams,
    run=run,
    stream=True,
    concurrent=True,
    torch=False,
    openai=Handler(params=openai.Request, run=reply, stream=True, torch=False),
)
