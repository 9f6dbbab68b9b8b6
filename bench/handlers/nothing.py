"""Do nothing: what is left is the cost of taking a job to its result."""

from pydantic import Field

from shared.schemas import Context, Handler, Params


class NothingParams(Params):
    """One, so that there is something to check."""

    prompt: str = Field("", description="Is not read.")


def run(model: None, params: NothingParams, ctx: Context) -> None:
    """Nothing."""


handler = Handler(params=NothingParams, run=run, torch=False)
