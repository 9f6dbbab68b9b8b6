"""Hold the device for a while: a pipeline of known length, without a model."""

import time

from pydantic import Field

from shared.schemas import Context, Handler, Params


class HoldParams(Params):
    """For how long."""

    ms: float = Field(50, ge=0, description="Milliseconds.")


def run(model: None, params: HoldParams, ctx: Context) -> None:
    """Sleep, and note when, in seconds since the epoch."""
    started = time.time()
    time.sleep(params.ms / 1000)
    ctx.note(started=started, ended=time.time())


handler = Handler(params=HoldParams, run=run)
