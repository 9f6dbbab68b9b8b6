"""Says the last message back word by word, and waits for a file after the first; without a model or torch."""

import time
from pathlib import Path
from typing import Any

from pydantic import Field

from handlers.text_generation import TextGenerationParams
from shared.errors import InvalidInput
from shared.schemas import Context, Handler


class EchoParams(TextGenerationParams):
    """A chat, whose last message names the file that it waits for by its first word."""

    gates: str = Field(description="The folder of these files.")


def run(model: None, params: EchoParams, ctx: Context) -> None:
    """Say it; a message that begins with `plainly` is refused where it is not a prompt, as the first workers did."""
    said = params.messages[-1].content if params.messages else str(params.prompt).split("USER: ")[-1].split("\n")[0]
    words: list[Any] = str(said).split()
    if params.messages and words[0] == "plainly":
        raise InvalidInput("this worker needs a prompt")
    for number, word in enumerate(words):
        while number == 1 and not Path(params.gates, words[0]).exists():
            ctx.check()
            time.sleep(0.005)
        ctx.text(f"{word} ")
    ctx.finish("stop", {"completion_tokens": len(words)})


handler = Handler(params=EchoParams, run=run, stream=True, torch=False)
