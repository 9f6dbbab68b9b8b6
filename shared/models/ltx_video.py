"""LTX-Video, whose latents are packed in a row and decoded all at once."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from shared.models.prompted_video import PromptedVideo, Size

if TYPE_CHECKING:
    from torch import Generator, Tensor

PIPELINE_MULTIPLE = 32  # of the sides, by diffusers' own check
# How far denoised a decoder takes its latents that does the last step itself (0.9.1 and later): its authors' advice.
DECODE_TIMESTEP = 0.05
DECODE_NOISE_SCALE = 0.025


class LtxVideo(PromptedVideo):
    """An LTX-Video checkpoint, warm on its device."""

    @property
    def multiple(self) -> int:
        """See PromptedVideo."""
        cell = self.parts["vae"].spatial_compression_ratio * self.parts["transformer"].config.patch_size
        return math.lcm(PIPELINE_MULTIPLE, cell)

    @property
    def stride(self) -> int:
        """See PromptedVideo."""
        return int(self.parts["vae"].temporal_compression_ratio)

    def arguments(self, pipe: Any, told: dict[str, Any]) -> dict[str, Any]:
        """See PromptedVideo."""
        return {"frame_rate" if name == "fps" else name: value for name, value in told.items()}

    def unpacked(self, pipe: Any, latents: "Tensor", size: Size, num_frames: int) -> "Tensor":
        """See PromptedVideo."""
        vae, patches = self.parts["vae"], self.parts["transformer"].config
        width, height = (side // vae.spatial_compression_ratio for side in size)
        time = (num_frames - 1) // self.stride + 1
        video = pipe._unpack_latents(latents, time, height, width, patches.patch_size, patches.patch_size_t)
        means, deviations = vae.latents_mean, vae.latents_std
        video = pipe._denormalize_latents(video, means, deviations, vae.config.scaling_factor)
        moved: Tensor = video.to(vae.dtype)
        return moved

    def pieces(self, latents: int) -> int:
        """See PromptedVideo. Each of its frames is decoded with the ones around it."""
        return 1

    def decoded(self, pipe: Any, latents: "Tensor", noise: "Generator | None") -> "Iterator[Tensor]":
        """See PromptedVideo."""
        import torch

        time = None
        if pipe.vae.config.timestep_conditioning:
            time = torch.tensor([DECODE_TIMESTEP], device=latents.device, dtype=latents.dtype)
            if noise is not None:
                added = torch.randn(latents.shape, generator=noise, dtype=latents.dtype).to(latents.device)
                latents = (1 - DECODE_NOISE_SCALE) * latents + DECODE_NOISE_SCALE * added
        with torch.no_grad():
            video = pipe.vae.decode(latents, time, return_dict=False)[0]
        yield video
