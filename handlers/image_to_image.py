"""Change an image as a prompt says."""

from typing import Any, Self

from PIL.Image import Image
from pydantic import Field, model_validator

from shared.media.image import ImageInput, read_image
from shared.models.diffusion import Diffusion, load
from shared.models.sampling import SamplingParams, sample
from shared.schemas import Context, Handler

LONGEST_SIDE = 2048


class ImageToImageParams(SamplingParams):
    """What a picture is changed to."""

    image: ImageInput = Field(description="The picture to start from.")
    strength: float = Field(0.8, gt=0, le=1, description="0 keeps the picture, 1 draws a new one.")
    image_guidance_scale: float = Field(
        1.5, ge=1, le=20, description="How closely to keep to the picture; instruct-pix2pix models only."
    )
    height: int | None = Field(
        None, ge=64, le=LONGEST_SIDE, multiple_of=8, description="Height in pixels; the picture's own by default."
    )
    width: int | None = Field(
        None, ge=64, le=LONGEST_SIDE, multiple_of=8, description="Width in pixels; the picture's own by default."
    )

    @model_validator(mode="after")
    def _leaves_a_step(self) -> Self:
        if int(self.num_inference_steps * self.strength) < 1:
            raise ValueError("num_inference_steps x strength must be at least 1, or no step is left to run")
        return self


def run(model: Diffusion, params: ImageToImageParams, ctx: Context) -> None:
    """Start from the picture with noise of `strength`, or follow the instruction where the model takes one."""
    image = fit(read_image(params.image), params.width, params.height)
    own: dict[str, Any] = {"image": [image] * params.num_images_per_prompt}
    if model.family.strength:
        own["strength"] = params.strength
    if model.family.image_guidance:
        own["image_guidance_scale"] = params.image_guidance_scale
    ctx.effective(strength=own.get("strength"), image_guidance_scale=own.get("image_guidance_scale"))
    sample(model, "image-to-image", params, ctx, **own)


def fit(image: Image, width: int | None, height: int | None) -> Image:
    """The picture at the size asked for; else at its own, made a multiple of 8 and at most 2048 a side."""
    shrink = min(1.0, LONGEST_SIDE / max(image.size))
    own_width, own_height = (max(64, int(side * shrink) // 8 * 8) for side in image.size)
    size = (width or own_width, height or own_height)
    return image if image.size == size else image.resize(size)


handler = Handler(params=ImageToImageParams, load=load, to_device=Diffusion.to_device, run=run)
