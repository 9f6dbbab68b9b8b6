"""Emit tokens at a given rate, each of which is the time when it was made: a pipeline without a model."""

import time

from pydantic import Field

from shared.schemas import Context, Handler, Params


class PaceParams(Params):
    """How many, how fast."""

    tokens: int = Field(1000, ge=1, description="Tokens.")
    rate: float = Field(200, gt=0, description="Tokens a second.")


def run(model: None, params: PaceParams, ctx: Context) -> None:
    """Each token at its time; before the first one, when this began."""
    begun, started = time.perf_counter(), time.time()
    for n in range(1, params.tokens + 1):
        time.sleep(max(0.0, begun + n / params.rate - time.perf_counter()))
        ctx.text(f"{started:.6f} {time.time():.6f} " if n == 1 else f"{time.time():.6f} ")


handler = Handler(params=PaceParams, run=run, stream=True, torch=False)
