"""Models that animate a picture as a prompt says: a pipeline over the shared parts for each job."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from shared.device import Device
from shared.errors import InvalidInput
from shared.media.frames import Pixels
from shared.models import placing
from shared.models.diffusion import generators, read
from shared.models.image_to_video import PREVIEW_CELLS, pixels
from shared.models.video_families import MOST_FRAMES, VideoFamily
from shared.schemas import Context, ModelSource

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Generator, Tensor

Size = tuple[int, int]  # width, height


@dataclass(frozen=True)
class _WithRange(Device):
    """A device, with the precision of each part where it halves: T5's numbers leave the range of float16."""

    whole: tuple[str, ...] = ()  # parts in single precision

    @property
    def dtype(self) -> Any:
        """As diffusers takes it: by part."""
        import torch

        return {"default": torch.bfloat16, **dict.fromkeys(self.whole, torch.float32)}


@dataclass
class PromptedVideo(ABC):
    """A checkpoint, warm on its device: the parts, of which each job makes a pipeline of its own."""

    source: ModelSource
    family: VideoFamily
    parts: dict[str, Any] = field(repr=False)
    flags: dict[str, Any]
    device: Device
    loading: dict[str, Any] = field(default_factory=dict)  # seconds and bytes by stage

    IN_SINGLE: ClassVar[tuple[str, ...]] = ()
    """Parts that keep single precision where the others are halved."""

    @classmethod
    def load(cls, source: ModelSource, family: VideoFamily, device: Device) -> Self:
        """Read a checkpoint in diffusers format and place it on the device.

        Raises:
            ModelUnavailable: its files cannot be read.
        """
        import torch

        halved = device.dtype == torch.float16
        precise = _WithRange(device.kind, bound_for=device.bound_for, whole=cls.IN_SINGLE) if halved else device
        pipe, loading = read(source, family.pipeline, precise)
        parts = dict(pipe.components)
        flags = {n: value for n, value in pipe.config.items() if n not in parts and not n.startswith("_")}
        return cls(source, family, parts, flags, device, loading)

    def to_device(self, device: Device) -> Self:
        """The checkpoint, which was read for such a device, on it."""
        return replace(self, device=device, loading=placing.move(self.parts.values(), device))

    @property
    def num_frames(self) -> int:
        """How many frames it draws where a job does not say."""
        return self.family.num_frames

    @property
    @abstractmethod
    def multiple(self) -> int:
        """What the sides of its frames must be multiples of."""

    @property
    @abstractmethod
    def stride(self) -> int:
        """Frames that one step in time of its latents stands for; the first stands for one."""

    @abstractmethod
    def arguments(self, pipe: Any, told: dict[str, Any]) -> dict[str, Any]:
        """What a job tells, as its pipeline takes it."""

    @abstractmethod
    def unpacked(self, pipe: Any, latents: "Tensor", size: Size, num_frames: int) -> "Tensor":
        """What its pipeline makes, as its decoder takes it: (1, channels, time, height, width)."""

    @abstractmethod
    def pieces(self, latents: int) -> int:
        """In how many pieces so many latents in time are decoded."""

    @abstractmethod
    def decoded(self, pipe: Any, latents: "Tensor", noise: "Generator | None") -> "Iterator[Tensor]":
        """Frames, piece by piece: (1, 3, frames, height, width) from -1 to 1. Without `noise` none is added first."""

    def animate(
        self, image: "Image", seed: int, ctx: Context, *, share: float, preview: bool, **told: Any
    ) -> Iterator[Pixels]:
        """The frames of a video that begins with the picture, in the picture's size.

        `share` is the part of the run's progress that this is. `told` are num_frames, num_inference_steps, fps,
        prompt, negative_prompt, guidance_scale.

        Raises:
            InvalidInput: the model does not draw frames of that size, or not so many.
            Cancelled, DeadlineExceeded: between two steps, or two pieces that are decoded.
        """
        num_frames = told["num_frames"]
        self._check(image.size, num_frames)
        pipe, pieces = self._pipeline(), self.pieces((num_frames - 1) // self.stride + 1)
        (noise,) = generators(seed, 1)

        def report(step: int, picture: "Callable[[], Image] | None" = None) -> None:
            ctx.step(step, math.ceil((pipe.num_timesteps + pieces) / share), picture)

        def peek(latents: "Tensor") -> "Image":
            return self._peek(pipe, self.unpacked(pipe, latents, image.size, num_frames))

        def on_step(_: Any, step: int, time: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            report(step + 1, (lambda: peek(tensors["latents"])) if preview else None)
            return tensors

        arguments = self.arguments(pipe, told)
        ctx.check()  # a prompt may have taken seconds to be read
        drawn = pipe(
            image=image,
            width=image.width,
            height=image.height,
            generator=noise,
            output_type="latent",
            callback_on_step_end=on_step,
            **arguments,
        )
        latents = self.unpacked(pipe, drawn.frames, image.size, num_frames)
        for number, video in enumerate(self.decoded(pipe, latents, noise), start=1):
            report(pipe.num_timesteps + number)
            yield from pixels(video[0].float())

    def _check(self, size: Size, num_frames: int) -> None:
        width, height = size
        if any(side % self.multiple for side in size):
            raise InvalidInput(
                f"'{self.source.model_id}' draws frames whose sides are multiples of {self.multiple}, "
                f"not {width} x {height}"
            )
        before = (num_frames - 1) // self.stride * self.stride + 1
        if num_frames != before or before == 1:
            near = [n for n in (before, before + self.stride) if 1 < n <= MOST_FRAMES]
            raise InvalidInput(
                f"num_frames is {num_frames}; '{self.source.model_id}' draws a multiple of {self.stride} and one: "
                f"ask for {' or '.join(map(str, near))}"
            )

    def _peek(self, pipe: Any, latents: "Tensor") -> "Image":
        """The last frame of what there is, decoded small."""
        import torch
        from PIL import Image

        last = latents[:, :, -1:]
        if max(last.shape[-2:]) > PREVIEW_CELLS:
            scale = PREVIEW_CELLS / max(last.shape[-2:])
            last = torch.nn.functional.interpolate(last, scale_factor=(1, scale, scale))
        (video,) = self.decoded(pipe, last, None)
        return Image.fromarray(pixels(video[0].float())[0])

    def _pipeline(self) -> Any:
        """A pipeline with a scheduler of its own: jobs that share one would spoil each other's steps."""
        import diffusers

        scheduler = self.parts["scheduler"]
        own = type(scheduler).from_config(scheduler.config)
        pipe = getattr(diffusers, self.family.pipeline)(**{**self.parts, **self.flags, "scheduler": own})
        pipe.set_progress_bar_config(disable=True)
        return pipe
