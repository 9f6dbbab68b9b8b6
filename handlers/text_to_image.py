"""Draw images from a prompt."""

from pydantic import Field

from shared.models.diffusion import Diffusion, load
from shared.models.sampling import SamplingParams, sample
from shared.schemas import Context, Handler


class TextToImageParams(SamplingParams):
    """What a picture is drawn from."""

    height: int = Field(512, ge=64, le=2048, multiple_of=8, description="Height in pixels.")
    width: int = Field(512, ge=64, le=2048, multiple_of=8, description="Width in pixels.")


def run(model: Diffusion, params: TextToImageParams, ctx: Context) -> None:
    """Draw the whole batch at once; image k is what seed + k draws alone."""
    sample(model, "text-to-image", params, ctx, height=params.height, width=params.width)


handler = Handler(
    params=TextToImageParams,
    load=load,
    to_device=Diffusion.to_device,
    run=run,
    warmup={"prompt": "a red circle on a blue background", "num_inference_steps": 1},
)
