"""The parameters that diffusion pipelines share, and one sampled batch made from them."""

import secrets
from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator

from shared.models.diffusion import Diffusion, Scheduler, Task, generators, on_step
from shared.schemas import MAX_SEED, Context, ImageFormat, ModelParams

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_IMAGES = 8


class SamplingParams(ModelParams):
    """What every diffusion pipeline is asked; names as in the Hugging Face task specifications."""

    prompt: str = Field(
        min_length=1,
        max_length=8000,
        description="What to draw. `a | b` gives a model with several text encoders a prompt for each.",
    )
    negative_prompt: str = Field("", max_length=8000, description="What not to draw; split by `|` as the prompt.")
    guidance_scale: float = Field(
        7.5, ge=0, le=50, description="How closely to follow the prompt; turbo models run without guidance."
    )
    num_inference_steps: int = Field(30, ge=1, le=150, description="Denoising steps.")
    num_images_per_prompt: int = Field(1, ge=1, le=MAX_IMAGES, description="Images; image k uses seed + k.")
    seed: int | None = Field(None, ge=0, le=MAX_SEED - MAX_IMAGES, description="Drawn and answered when not given.")
    scheduler: Scheduler | None = Field(
        None, description="Sampler, by its diffusers class; the model's own by default."
    )
    safety_check: bool = Field(True, description="Run the model's safety checker, where it brings one.")
    loras: str | dict[str, float] = Field("", description="LoRA weights by repository; not loaded by this version.")
    image_format: ImageFormat = Field("png", description="File format of the images.")
    preview: bool = Field(False, description="Send a small picture along with the progress.")

    @field_validator("loras")
    @classmethod
    def _refuse_loras(cls, loras: str | dict[str, float]) -> str | dict[str, float]:
        if loras not in ("", "{}", {}):
            raise ValueError("this version does not load LoRA weights; leave loras out")
        return loras


def sample(model: Diffusion, task: Task, params: SamplingParams, ctx: Context, **own: Any) -> "list[Image]":
    """Run the task's pipeline once for the whole batch; `own` are the task's own arguments. Emits every image.

    Raises:
        InvalidInput: the model does not do the task, or not with that scheduler in so many steps.
        Cancelled, DeadlineExceeded: between two steps.
    """
    seed = secrets.randbelow(MAX_SEED - MAX_IMAGES) if params.seed is None else params.seed
    guidance = params.guidance_scale if model.guided else 0.0
    ctx.effective(seed=seed, guidance_scale=guidance)
    pipe = model.pipeline(task, params.scheduler, params.num_inference_steps, safety_check=params.safety_check)
    made = pipe(
        **model.split_prompt("prompt", params.prompt),
        **(model.split_prompt("negative_prompt", params.negative_prompt) if params.negative_prompt else {}),
        guidance_scale=guidance,
        num_inference_steps=params.num_inference_steps,
        num_images_per_prompt=params.num_images_per_prompt,
        generator=generators(seed, params.num_images_per_prompt),
        callback_on_step_end=on_step(ctx, preview=params.preview),
        **own,
    )
    ctx.note(safety_checked=params.safety_check and model.has_safety_checker())
    flagged = getattr(made, "nsfw_content_detected", None) or [False] * len(made.images)
    for k, (image, nsfw) in enumerate(zip(made.images, flagged, strict=True)):
        ctx.image(image, seed=seed + k, nsfw=bool(nsfw))
    images: list[Image] = made.images
    return images
