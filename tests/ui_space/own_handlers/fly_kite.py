"""Says how a kite flew: in words, as JSON with a file in it, or not at all; without a model or torch."""

import base64
import time
from enum import StrEnum
from pathlib import Path

from pydantic import Field

from shared.errors import InvalidInput
from shared.schemas import Context, Handler, Params


class Wind(StrEnum):
    """How strong it blows."""

    calm = "calm"
    strong = "strong"


class FlyKiteParams(Params):
    """Which kite flies, and how."""

    name: str = Field(min_length=1, description="What it is called; no kite called torn flies.")
    tails_m: list[float] = Field(description="The length of each tail.")
    wind: Wind = Field(Wind.calm, description="Which wind.")
    height_m: int = Field(100, ge=1, le=500, description="How high.")
    told: str = Field("words", description="As words, as json, or not at all: nothing.")
    until: str = Field("", description="A file that it waits for after the first of two steps.")


def run(model: None, params: FlyKiteParams, ctx: Context) -> None:
    """Fly it."""
    if params.name == "torn":
        raise InvalidInput("this kite is torn; take another")
    while params.until and not Path(params.until).exists():
        ctx.step(1, 2)
        time.sleep(0.01)
    if params.told == "words":
        ctx.text(f"{params.name} flew at {params.height_m} m in {params.wind} wind")
    if params.told == "json":
        log = f"tail,m\n0,{params.tails_m[0]}\n".encode()
        ctx.answer(
            {
                "kite": {"name": params.name, "tails": len(params.tails_m)},
                "log": {"url": f"data:text/csv;base64,{base64.b64encode(log).decode()}"},
                "elsewhere": {"url": "http://127.0.0.1:9/not-fetched.csv"},
            }
        )


handler = Handler(params=FlyKiteParams, run=run, stream=True, torch=False)
