"""Say something, wait until another job has, and say the rest: two jobs at once on one model that has two places."""

import time
from pathlib import Path

from pydantic import Field

from shared.device import Device
from shared.schemas import Context, Handler, ModelParams, ModelSource


class ConverseParams(ModelParams):
    """Who speaks, and who is to be heard first."""

    name: str = Field(description="Who speaks.")
    after: str = Field(description="Who is to have spoken before this one goes on.")
    turns: int = Field(5, ge=1, description="How often it goes to and fro.")
    folder: str = Field(description="Where they hear of each other.")


class Table:
    """A model for two."""

    slots = 2


def load(source: ModelSource, device: Device) -> Table:
    """A model that needs no files but those that make a folder whole."""
    return Table()


def run(model: Table, params: ConverseParams, ctx: Context) -> None:
    """Say one's name and a number, and wait for the same of the other."""
    folder = Path(params.folder)
    for turn in range(params.turns):
        ctx.text(f"{params.name}{turn} ")
        (folder / f"{params.name}{turn}").touch()
        while not (folder / f"{params.after}{turn}").exists():
            ctx.text("")
            time.sleep(0.005)


handler = Handler(params=ConverseParams, load=load, run=run, stream=True, concurrent=True, torch=False)
