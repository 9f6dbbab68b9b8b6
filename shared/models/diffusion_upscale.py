"""The Stable Diffusion x4 upscaler, which draws a picture anew at four times its size, as a prompt says."""

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from PIL import Image

from shared.errors import InvalidInput, ModelUnavailable
from shared.models import placing
from shared.models.diffusion import class_of, generators, read
from shared.models.single_file import INDEX
from shared.schemas import Context, ModelSource

if TYPE_CHECKING:
    from shared.device import Device

CLASS_NAME = "StableDiffusionUpscalePipeline"
SCALE = 4
MULTIPLE = 8  # of the sides that its UNet halves
UNTILED_PIXELS = 512 * 512  # of the picture given; the decoder takes larger ones in tiles
MOST_PIXELS = 1024 * 1024  # of the picture given; sixteen times as many are decoded at once


@dataclass
class DiffusionUpscaler:
    """A checkpoint, warm on its device: the parts, of which each job makes a pipeline of its own."""

    source: ModelSource
    parts: dict[str, Any] = field(repr=False)
    flags: dict[str, Any]
    loading: dict[str, Any] = field(default_factory=dict)
    scale: int = field(default=SCALE, init=False)
    kind: Literal["diffusion"] = field(default="diffusion", init=False)

    def has_safety_checker(self) -> bool:
        """Whether the checkpoint brings a checker of its own."""
        return self.parts.get("safety_checker") is not None

    def to_device(self, device: "Device") -> Self:
        """The checkpoint, which was read for such a device, on it."""
        return replace(self, loading=placing.move(self.parts.values(), device))

    def enlarge(
        self, image: Image.Image, seed: int, ctx: Context, *, scale: float | None, safety_check: bool, **told: Any
    ) -> tuple[Image.Image, bool]:
        """The picture at `scale` (4) times its size, and whether the checkpoint's own checker objects to it.

        Transparency is enlarged by Lanczos. `told` goes to diffusers: prompt, negative_prompt, guidance_scale,
        noise_level, num_inference_steps.

        Raises:
            InvalidInput: the picture is too large, or the noise level is over the checkpoint's.
            Cancelled, DeadlineExceeded: between two steps.
        """
        self._check(image, told["noise_level"])
        pipe, steps = self._pipeline(safety_check=safety_check), told["num_inference_steps"]
        pipe.vae.use_tiling = image.width * image.height > UNTILED_PIXELS
        made = pipe(
            image=_padded(image.convert("RGB")),
            generator=generators(seed, 1),
            callback=lambda step, time, latents: ctx.step(min(step + 1, steps), steps),
            **told,
        )
        drawn: Image.Image = made.images[0].crop((0, 0, image.width * SCALE, image.height * SCALE))
        if image.mode == "RGBA":
            drawn.putalpha(image.getchannel("A").resize(drawn.size, Image.Resampling.LANCZOS))
        size = round(image.width * (scale or SCALE)), round(image.height * (scale or SCALE))
        return drawn.resize(size, Image.Resampling.LANCZOS), any(made.nsfw_content_detected or ())

    def _check(self, image: Image.Image, noise_level: int) -> None:
        if image.width * image.height > MOST_PIXELS:
            raise InvalidInput(
                f"the image has {image.width} x {image.height} pixels; '{self.source.model_id}' takes at most "
                f"{MOST_PIXELS:,}: send a smaller one, or choose a model that works in tiles, such as Real-ESRGAN's"
            )
        most = int(self.flags["max_noise_level"])
        if noise_level > most:
            raise InvalidInput(f"noise_level is {noise_level}; '{self.source.model_id}' knows levels up to {most}")

    def _pipeline(self, *, safety_check: bool) -> Any:
        """A pipeline with schedulers of its own: jobs that share them would spoil each other's steps."""
        import diffusers

        own = {name: type(part).from_config(part.config) for name, part in self.parts.items() if "scheduler" in name}
        if not safety_check:
            own["safety_checker"] = None
        pipe = getattr(diffusers, CLASS_NAME)(**{**self.parts, **self.flags, **own})
        pipe.set_progress_bar_config(disable=True)
        return pipe


def is_one(source: ModelSource) -> bool:
    """Whether the model is in diffusers format, and so none of Real-ESRGAN's."""
    return (source.path / INDEX).is_file()


def load(source: ModelSource, device: "Device") -> DiffusionUpscaler:
    """Read a checkpoint in diffusers format and place it on the device.

    Raises:
        ModelUnavailable: it is another pipeline's, or its files cannot be read.
    """
    class_name = class_of(source)
    if class_name != CLASS_NAME:
        raise ModelUnavailable(f"'{source.model_id}' is a {class_name}; what enlarges pictures is a {CLASS_NAME}")
    pipe, loading = read(source, class_name, device)
    return DiffusionUpscaler(
        source, dict(pipe.components), {"max_noise_level": pipe.config["max_noise_level"]}, loading
    )


def _padded(image: Image.Image) -> Image.Image:
    """The picture with its last row and column repeated until its sides are multiples of 8."""
    below, right = (-side % MULTIPLE for side in (image.height, image.width))
    return Image.fromarray(np.pad(np.asarray(image), ((0, below), (0, right), (0, 0)), "edge"))
