"""Frames of noise, as a video or one by one; a pipeline for tests, in place of the one that has a model."""

from fractions import Fraction
from typing import Literal

import numpy as np
from PIL import Image
from pydantic import Field

from shared.media.video import VideoParams
from shared.schemas import Context, Handler, ImageFormat


class NoiseFilmParams(VideoParams):
    """How it is answered."""

    output: Literal["video", "frames"] = Field("video", description="A video, or each frame as an image.")
    image_format: ImageFormat = Field("png", description="Of the frames.")


def run(model: None, params: NoiseFilmParams, ctx: Context) -> None:
    """Three frames."""
    frames = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    if params.output == "frames":
        for frame in frames:
            ctx.image(Image.fromarray(frame))
        return
    with ctx.video(32, 32, Fraction(6), seed=1) as out:
        for frame in frames:
            out.write(frame)


handler = Handler(
    params=NoiseFilmParams,
    run=run,
    torch=False,
    output=lambda params: "image" if params.output == "frames" else "video",
)
