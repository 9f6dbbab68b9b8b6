"""A video of noise, without a model; a pipeline for tests."""

from fractions import Fraction

from pydantic import Field

from shared.media.video import VideoParams
from shared.schemas import Context, Handler


class FilmNoiseParams(VideoParams):
    """How much noise."""

    width: int = Field(64, ge=2, le=4096, description="Pixels.")
    height: int = Field(64, ge=2, le=4096, description="Pixels.")
    num_frames: int = Field(4, ge=1, le=1000, description="Frames.")
    foretold: int = Field(0, ge=0, le=10**12, description="What it says that it will take, in bytes.")


def run(model: None, params: FilmNoiseParams, ctx: Context) -> None:
    """Noise is what no codec makes smaller."""
    import numpy as np

    random = np.random.default_rng(0)
    with ctx.video(params.width, params.height, Fraction(24)) as out:
        for n in range(params.num_frames):
            out.write(random.integers(0, 256, (params.height, params.width, 3), np.uint8))
            ctx.step(n + 1, params.num_frames)


handler = Handler(params=FilmNoiseParams, run=run, expected_bytes=lambda params, between: params.foretold)
