"""Noise of a given size, without a model; a pipeline for tests."""

from PIL import Image
from pydantic import Field

from shared.schemas import Context, Handler, ImageFormat, Params


class PaintParams(Params):
    """How much noise."""

    side: int = Field(16, ge=1, le=1024, description="Pixels a side.")
    num_images_per_prompt: int = Field(1, ge=1, le=8, description="How many.")
    image_format: ImageFormat = Field("png", description="File format.")


def run(model: None, params: PaintParams, ctx: Context) -> None:
    """Noise is what no format makes smaller."""
    for seed in range(params.num_images_per_prompt):
        ctx.image(Image.effect_noise((params.side, params.side), 100).convert("RGB"), seed=seed)


handler = Handler(params=PaintParams, run=run)
