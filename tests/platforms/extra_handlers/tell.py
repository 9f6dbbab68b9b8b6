"""Emit given pieces of text, and wait for files where told to; a pipeline for tests, without a model or torch."""

import time
from pathlib import Path

from pydantic import Field

from shared import openai
from shared.errors import InvalidInput
from shared.schemas import Context, Handler, Params


class TellParams(Params):
    """What to say, and what to wait for."""

    pieces: list[str] = Field(["one ", "two ", "three"], description="Emitted one by one.")
    times: int = Field(1, ge=0, description="How often they are emitted.")
    stream: bool = Field(True, description="False: one piece at the end.")
    gate: str = Field("", description="A file without which no piece from number `hold` on is emitted.")
    hold: int = Field(1, ge=0, description="How many pieces need no gate.")
    deaf: bool = Field(False, description="Hear no stop while it waits for the gate.")
    said: str = Field("", description="A file that is made when the last piece has been emitted.")
    name: str = Field("", description="Written into the diary.")
    diary: str = Field("", description="A file that gets a line at the start and at the end.")
    fail: str = Field("", description="Raise a RuntimeError with this text in the end.")


def run(model: None, params: TellParams, ctx: Context) -> None:
    """Say it."""
    note(params, "start")
    try:
        for n, piece in enumerate(params.pieces * params.times):
            if n >= params.hold and params.gate:
                wait_for(Path(params.gate), ctx, deaf=params.deaf)
            ctx.text(piece)
        if params.said:
            Path(params.said).touch()
        if params.fail:
            raise RuntimeError(params.fail)
        ctx.finish("stop", {"completion_tokens": len(params.pieces) * params.times})
    finally:
        note(params, "end")


def wait_for(gate: Path, ctx: Context, *, deaf: bool) -> None:
    """Hold the device until the file is there, or the job is told to stop and hears it."""
    while not gate.exists():
        if not deaf:
            ctx.text("")
        time.sleep(0.005)


def note(params: TellParams, what: str) -> None:
    """One line in the diary, as the sleep pipeline writes it."""
    if params.diary:
        with Path(params.diary).open("a") as file:
            file.write(f"{params.name} {what} {time.monotonic():.6f}\n")


def reply(model: None, request: openai.Request, ctx: Context) -> None:
    """Repeat the prompt word by word, as one answer or as events; `refuse_at` ends it before that word."""
    words = str(request.body.get("prompt", "")).split()
    for n, word in enumerate(words):
        if n == request.body.get("refuse_at"):
            raise InvalidInput("prompt: this word is not said")
        if request.stream:
            ctx.text(openai.event({"choices": [{"text": word}]}))
    if request.stream:
        ctx.text(openai.DONE)
    else:
        ctx.answer({"choices": [{"text": " ".join(words)}]})


handler = Handler(
    params=TellParams,
    run=run,
    stream=True,
    torch=False,
    openai=Handler(params=openai.Request, run=reply, stream=True, torch=False),
)
