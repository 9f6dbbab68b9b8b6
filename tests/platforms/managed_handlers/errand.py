"""Run other pipelines one after the other; a pipeline for tests, without a model or torch."""

from pydantic import Field

from shared.schemas import Context, Handler, Params, Planning


class ErrandParams(Params):
    """Whom to ask."""

    models: list[str] = Field([], description="The models of which a census is taken.")


def validate(params: ErrandParams, planning: Planning) -> None:
    """Their models must be there."""
    for model_id in params.models:
        planning.plan("census", {"model_id": model_id})


def run(model: None, params: ErrandParams, ctx: Context) -> None:
    """Ask one after the other."""
    for model_id in params.models:
        ctx.run("census", {"model_id": model_id})


handler = Handler(params=ErrandParams, run=run, validate=validate, torch=False)
