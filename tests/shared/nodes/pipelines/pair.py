"""A chain that draws twice, the second time from the first; a pipeline for tests."""

from shared.schemas import Context, Handler, Made, Params, Planning


def validate(params: Params, planning: Planning) -> None:
    """Plan what is known before the run."""
    planning.plan("draw", {})


def run(model: None, params: Params, ctx: Context) -> None:
    """Draw, and draw on."""
    (first,) = ctx.run("draw", {"side": 8}, span=(0.0, 0.5))
    assert isinstance(first, Made)
    for made in ctx.run("draw", {"image": first.image}, span=(0.5, 1.0)):
        ctx.emit(made)


handler = Handler(params=Params, run=run, validate=validate, torch=False, chains=True)
