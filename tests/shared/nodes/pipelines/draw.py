"""Pictures that only nodes can draw; a pipeline for tests."""

from pydantic import Field

from shared.device import Device
from shared.media.image import ImageInput
from shared.schemas import Context, Handler, ModelParams, ModelSource


class DrawParams(ModelParams):
    """What to draw."""

    prompt: str = Field("a circle", max_length=100, description="What.")
    side: int = Field(8, ge=1, le=64, description="Pixels a side.")
    image: ImageInput | None = Field(None, description="What to begin with.")


def load(source: ModelSource, device: Device) -> None:
    """No test gets here."""
    raise AssertionError("a model of a node was loaded here")


def run(model: None, params: DrawParams, ctx: Context) -> None:
    """Nor here."""
    raise AssertionError("a job of a node was run here")


handler = Handler(params=DrawParams, load=load, run=run)
