"""Stable Video Diffusion, which sets a picture in motion: loaded once, a pipeline over its parts for each job."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from shared.errors import InvalidInput, ModelUnavailable
from shared.media.frames import Pixels
from shared.models import placing
from shared.models.diffusion import class_of, generators, read
from shared.models.video_families import FAMILIES, VideoFamily
from shared.schemas import Context, ModelSource

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from shared.device import Device

CLASS_NAME = "StableVideoDiffusionPipeline"
# What the published decoder keeps at once in single precision, of each pixel of each frame: counted, 4,160 to 4,350.
DECODED_BYTES = 4400
MEMORY_SHARE = 0.5  # of what is free; the rest is for the convolutions' own needs
MOST_AT_ONCE = 8
UNKNOWN_MEMORY = 4  # frames at once, where nobody tells how much memory is free
PREVIEW_CELLS = 32  # of a latent's longer side


@dataclass
class ImageToVideo:
    """A checkpoint, warm on its device: the parts, of which each job makes a pipeline of its own."""

    source: ModelSource
    parts: dict[str, Any] = field(repr=False)
    device: "Device"
    loading: dict[str, Any] = field(default_factory=dict)  # seconds and bytes by stage

    family: ClassVar[VideoFamily] = FAMILIES[CLASS_NAME]

    @property
    def num_frames(self) -> int:
        """How many frames it was trained to draw."""
        return int(self.parts["unet"].config.num_frames)

    @property
    def multiple(self) -> int:
        """What the sides of its frames must be multiples of: its networks halve them again and again."""
        halvings = sum(len(self.parts[name].config.block_out_channels) - 1 for name in ("vae", "unet"))
        return 1 << halvings

    def to_device(self, device: "Device") -> Self:
        """The checkpoint, which was read for such a device, on it."""
        return replace(self, device=device, loading=placing.move(self.parts.values(), device))

    def frames_at_once(self, width: int, height: int) -> int:
        """How many frames are decoded at once, by the device's free memory.

        A power of two, so that a little more or less free memory makes no other video.
        """
        import torch

        free = self.device.memory_free()
        if not free:
            return UNKNOWN_MEMORY
        each = DECODED_BYTES * width * height * self.device.dtype.itemsize // torch.float32.itemsize
        fits = int(min(MOST_AT_ONCE, free * MEMORY_SHARE // each))
        return 1 << max(0, fits.bit_length() - 1)

    def animate(
        self, image: "Image", seed: int, ctx: Context, *, at_once: int, share: float, preview: bool, **told: Any
    ) -> Iterator[Pixels]:
        """The frames of a video that begins with the picture, in the picture's size; decoded `at_once` at a time.

        `share` is the part of the run's progress that this is. `told` goes to diffusers: num_frames,
        num_inference_steps, fps, motion_bucket_id, noise_aug_strength, min_guidance_scale, max_guidance_scale.

        Raises:
            InvalidInput: the model does not draw frames of that size.
            Cancelled, DeadlineExceeded: between two steps, or two pieces that are decoded.
        """
        import torch

        self._check_size(image)
        pipe, pieces = self._pipeline(), math.ceil(told["num_frames"] / at_once)

        def report(step: int, picture: "Callable[[], Image] | None" = None) -> None:
            ctx.step(step, math.ceil((pipe.num_timesteps + pieces) / share), picture)

        def on_step(_: Any, step: int, time: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            report(step + 1, (lambda: peek(pipe, tensors["latents"], step + 1)) if preview else None)
            return tensors

        # diffusers compares it with 1 before and after it is rounded to the model's precision
        told["max_guidance_scale"] = torch.tensor(told["max_guidance_scale"], dtype=self.device.dtype).item()
        drawn = pipe(
            image,
            width=image.width,
            height=image.height,
            generator=generators(seed, 1),
            output_type="latent",
            callback_on_step_end=on_step,
            **told,
        )
        for number, latents in enumerate(drawn.frames.split(at_once, dim=1), start=1):
            frames = decode(pipe, latents)
            report(pipe.num_timesteps + number)
            yield from frames

    def _check_size(self, image: "Image") -> None:
        if any(side % self.multiple for side in image.size):
            raise InvalidInput(
                f"'{self.source.model_id}' draws frames whose sides are multiples of {self.multiple}, "
                f"not {image.width} x {image.height}"
            )

    def _pipeline(self) -> Any:
        """A pipeline with a scheduler of its own: jobs that share one would spoil each other's steps."""
        import diffusers

        # diffusers encodes in single precision, and leaves it at that where memory runs out there
        self.parts["vae"].to(self.device.dtype)
        scheduler = self.parts["scheduler"]
        own = type(scheduler).from_config(scheduler.config)
        pipe = getattr(diffusers, CLASS_NAME)(**{**self.parts, "scheduler": own})
        pipe.set_progress_bar_config(disable=True)
        return pipe


def load(source: ModelSource, device: "Device") -> ImageToVideo:
    """Read a checkpoint in diffusers format and place it on the device.

    Raises:
        ModelUnavailable: it is another pipeline's, or its files cannot be read.
    """
    class_name = class_of(source)
    if class_name != CLASS_NAME:
        raise ModelUnavailable(f"'{source.model_id}' is a {class_name}; what animates pictures is a {CLASS_NAME}")
    pipe, loading = read(source, class_name, device)
    return ImageToVideo(source, dict(pipe.components), device, loading)


def decode(pipe: Any, latents: "Tensor") -> "list[Pixels]":
    """Frames of latents (1, frames, 4, h, w), decoded all at once: what is next to each other is made to agree."""
    import torch

    count = latents.shape[1]
    with torch.no_grad():
        return pixels(pipe.decode_latents(latents, count, count)[0])


def pixels(video: "Tensor") -> "list[Pixels]":
    """Frames of a video (3, frames, height, width) whose colours go from -1 to 1."""
    import torch

    levels = ((video / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
    return list(levels.permute(1, 2, 3, 0).contiguous().cpu().numpy())


def peek(pipe: Any, latents: "Tensor", step: int) -> "Image":
    """The first frame after so many steps, decoded small, its noise no louder than a picture's colours."""
    import torch
    from PIL import Image

    deviation = float(pipe.scheduler.sigmas[step] ** 2 + 1) ** 0.5
    first = latents[:1, 0] / deviation
    if max(first.shape[-2:]) > PREVIEW_CELLS:
        first = torch.nn.functional.interpolate(first, scale_factor=PREVIEW_CELLS / max(first.shape[-2:]))
    return Image.fromarray(decode(pipe, first[:, None])[0])
