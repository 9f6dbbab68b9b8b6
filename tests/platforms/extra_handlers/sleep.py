"""Hold the lane for a while in steps, and say in a file when; a pipeline for tests, without a model or torch."""

import time
from pathlib import Path

from pydantic import Field

from shared.schemas import Context, Handler, Params


class SleepParams(Params):
    """How long to hold the lane, and what to leave behind."""

    ms: float = Field(50, ge=0, description="Milliseconds in all.")
    steps: int = Field(1, ge=1, description="The job can stop between two of them.")
    name: str = Field("", description="Written into the diary.")
    diary: str = Field("", description="A file that gets a line at the start and at the end.")
    fail: str = Field("", description="Raise a RuntimeError with this text in the end.")
    stubborn_ms: float = Field(0, ge=0, description="Milliseconds at the start in which nothing can stop the job.")


def run(model: None, params: SleepParams, ctx: Context) -> None:
    """Sleep, step by step."""
    note(params, "start")
    time.sleep(params.stubborn_ms / 1000)
    try:
        for step in range(params.steps):
            time.sleep(params.ms / params.steps / 1000)
            ctx.step(step + 1, params.steps)
    finally:
        note(params, "end")
    if params.fail:
        raise RuntimeError(params.fail)


def note(params: SleepParams, what: str) -> None:
    """One line in the diary: name, event, monotonic time (the same for all processes of a machine)."""
    if params.diary:
        with Path(params.diary).open("a") as file:
            file.write(f"{params.name} {what} {time.monotonic():.6f}\n")


handler = Handler(params=SleepParams, run=run, torch=False)
