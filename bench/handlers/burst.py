"""Emit pieces of text as fast as they are taken: what is left is the cost of a piece."""

from pydantic import Field

from shared.schemas import Context, Handler, Params


class BurstParams(Params):
    """How many."""

    pieces: int = Field(1000, ge=1, description="Pieces of text.")
    stream: bool = Field(False, description="Answer in pieces as they are made.")


def run(model: None, params: BurstParams, ctx: Context) -> None:
    """One after the other."""
    for _ in range(params.pieces):
        ctx.text("token ")


handler = Handler(params=BurstParams, run=run, stream=True, torch=False)
