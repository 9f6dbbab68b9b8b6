"""Wan 2.1 and 2.2, whose decoder goes through a video latent by latent."""

import html
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, cast

from shared.models.prompted_video import PromptedVideo, Size

if TYPE_CHECKING:
    from torch import Generator, Tensor

PIPELINE_MULTIPLE = 16  # of the sides, by diffusers' own check
TOKENS = 512  # of a prompt; what follows them is not read


class WanVideo(PromptedVideo):
    """A Wan checkpoint that takes a picture, warm on its device."""

    IN_SINGLE: ClassVar[tuple[str, ...]] = ("vae", "image_encoder")

    @property
    def multiple(self) -> int:
        """See PromptedVideo."""
        network = self.parts["transformer"] or self.parts["transformer_2"]
        cell = self.parts["vae"].config.scale_factor_spatial * math.lcm(*network.config.patch_size[1:])
        return math.lcm(PIPELINE_MULTIPLE, cell)

    @property
    def stride(self) -> int:
        """See PromptedVideo."""
        return int(self.parts["vae"].config.scale_factor_temporal)

    def arguments(self, pipe: Any, told: dict[str, Any]) -> dict[str, Any]:
        """See PromptedVideo. The model is not told of the rate."""
        more = {name: told[name] for name in ("num_frames", "num_inference_steps", "guidance_scale")}
        embeds = {"prompt_embeds": self._embedded(pipe, told["prompt"])}
        if told["guidance_scale"] > 1:
            embeds["negative_prompt_embeds"] = self._embedded(pipe, told["negative_prompt"])
        return {**more, **embeds}

    def unpacked(self, pipe: Any, latents: "Tensor", size: Size, num_frames: int) -> "Tensor":
        """See PromptedVideo."""
        import torch

        vae = self.parts["vae"]
        means, deviations = (
            torch.tensor(values, device=latents.device, dtype=vae.dtype).view(1, -1, 1, 1, 1)
            for values in (vae.config.latents_mean, vae.config.latents_std)
        )
        return latents.to(vae.dtype) / (1.0 / deviations) + means

    def pieces(self, latents: int) -> int:
        """See PromptedVideo."""
        return latents

    def decoded(self, pipe: Any, latents: "Tensor", noise: "Generator | None") -> "Iterator[Tensor]":
        """See PromptedVideo. As `AutoencoderKLWan.decode`, which does not let go before the last frame."""
        import torch
        from diffusers.models.autoencoders import autoencoder_kl_wan

        vae, wan = pipe.vae, cast(Any, autoencoder_kl_wan)  # it is not typed
        before = [None] * sum(isinstance(module, wan.WanCausalConv3d) for module in vae.decoder.modules())
        with torch.no_grad():
            moments = vae.post_quant_conv(latents)
        for number in range(moments.shape[2]):
            with torch.no_grad():
                moment = moments[:, :, number : number + 1]
                video = vae.decoder(moment, feat_cache=before, feat_idx=[0], first_chunk=number == 0)
            yield wan.unpatchify(video, vae.config.patch_size or 1).clamp(-1.0, 1.0)

    def _embedded(self, pipe: Any, text: str) -> "Tensor":
        """A prompt as the transformer takes it: (1, TOKENS, width), zero after its own tokens.

        Not by the pipeline, whose cleaning needs ftfy: here broken encodings and curly quotes stay as they are.
        """
        import torch

        clean = " ".join(html.unescape(html.unescape(text)).split())
        tokens = pipe.tokenizer(
            [clean], padding="max_length", max_length=TOKENS, truncation=True, return_tensors="pt"
        ).to(self.device.kind)
        with torch.no_grad():
            states: Tensor = pipe.text_encoder(tokens.input_ids, tokens.attention_mask).last_hidden_state
        return states.masked_fill(tokens.attention_mask[..., None] == 0, 0)
