"""Emit pictures of noise, which no file format makes smaller; a pipeline for tests, without a model or torch."""

import random

from PIL import Image
from pydantic import Field

from shared.media.image import ImageInput
from shared.schemas import Context, Handler, ImageFormat, Params


class NoiseParams(Params):
    """How much noise."""

    side: int = Field(64, ge=1, le=4096, description="Width and height in pixels.")
    image: ImageInput | None = Field(None, description="A picture to fetch for nothing.")
    num_images_per_prompt: int = Field(1, ge=1, le=8, description="Pictures.")
    image_format: ImageFormat = Field("png", description="File format.")


def run(model: None, params: NoiseParams, ctx: Context) -> None:
    """Draw from a fixed seed, so that a test can draw the same."""
    for n in range(params.num_images_per_prompt):
        ctx.image(noise(params.side, n), seed=n)


def noise(side: int, seed: int) -> Image.Image:
    """Random RGB pixels."""
    return Image.frombytes("RGB", (side, side), random.Random(seed).randbytes(side * side * 3))


handler = Handler(params=NoiseParams, run=run, torch=False)
