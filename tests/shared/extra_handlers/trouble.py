"""Trouble of a chosen kind, on a model that counts its loads; a pipeline for tests."""

from typing import Literal

from PIL import Image
from pydantic import Field

from shared.device import Device
from shared.errors import InvalidInput
from shared.schemas import Context, Handler, ModelParams, ModelSource

OUT_OF_MEMORY = "CUDA out of memory. Tried to allocate 20.00 GiB."


class TroubleParams(ModelParams):
    """How to fail."""

    kind: Literal["none", "bug", "refusal", "out of memory", "device lost"] = Field(
        "none", description="What goes wrong."
    )
    secret: str = Field("", description="Goes into the error's text.")
    attempts: int = Field(99, description="How many attempts fail.")


class Model:
    """Counts the runs on it; a new one counts anew."""

    loads = 0
    runs = 0  # of all models together


def load(source: ModelSource, device: Device) -> Model:
    """A model that needs no files but those that make a folder whole."""
    Model.loads += 1
    return Model()


def run(model: Model, params: TroubleParams, ctx: Context) -> None:
    """One step and one picture before the trouble, none of which may be left of it."""
    Model.runs += 1
    ctx.step(1, 2)
    ctx.image(Image.new("RGB", (8, 8), "red"))
    ctx.note(runs=Model.runs)
    if Model.runs <= params.attempts:
        fail(params)


def fail(params: TroubleParams) -> None:
    """Raise what such trouble raises."""
    if params.kind == "bug":
        raise KeyError(params.secret)
    if params.kind == "refusal":
        raise InvalidInput("not this one")
    if params.kind == "out of memory":
        raise RuntimeError(OUT_OF_MEMORY)
    if params.kind == "device lost":
        raise RuntimeError("CUDA error: an illegal memory access was encountered")


handler = Handler(params=TroubleParams, load=load, run=run)
