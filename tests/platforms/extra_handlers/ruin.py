"""Fail as a device does: out of memory once or always, or lost; a pipeline for tests."""

import time
from typing import Literal

from pydantic import Field

from shared.schemas import Context, Handler, Params

MESSAGES = {
    "out_of_memory": "CUDA out of memory. Tried to allocate 20.00 GiB.",
    "device_lost": "CUDA error: an illegal memory access was encountered",
}
attempts: dict[str, int] = {}


class RuinParams(Params):
    """How to fail."""

    how: Literal["out_of_memory", "device_lost"] = Field(
        "out_of_memory", description="Which error of torch to raise."
    )
    name: str = Field("", description="Attempts are counted by name.")
    after_ms: float = Field(0, description="Hold the device this long before it fails.")
    times: int = Field(1000, description="How many attempts fail.")


def run(model: None, params: RuinParams, ctx: Context) -> None:
    """Raise what torch raises, until it was raised often enough."""
    attempts[params.name] = attempts.get(params.name, 0) + 1
    time.sleep(params.after_ms / 1000)
    ctx.note(attempts=attempts[params.name])
    if attempts[params.name] <= params.times:
        raise RuntimeError(MESSAGES[params.how])


handler = Handler(params=RuinParams, run=run, torch=False)
