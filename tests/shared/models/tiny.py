"""Checkpoints of the real architectures with random weights: everything but the pictures is real."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers

from shared.models.store import DEMO_MODELS

WORDS = 24  # length of a prompt in tokens, as the demo model's
TEXT = {
    "vocab_size": 664,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "max_position_embeddings": WORDS,
    "projection_dim": 16,
    "bos_token_id": 662,
    "eos_token_id": 663,
    "pad_token_id": 663,
}
NOISE: dict[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
}
models: Any = diffusers  # it is not typed
encoders: Any = transformers


def stable_diffusion(folder: Path, *, variant: str | None = None) -> Path:
    """As SD 1.5, with a safety checker that is left out."""
    _sd_pipeline(_unet(4)).save_pretrained(folder, variant=variant)
    return folder


def checked_stable_diffusion(folder: Path) -> Path:
    """As SD 1.5, with a safety checker that finds every picture indecent."""
    pipe = _sd_pipeline(_unet(4))
    checker = models.pipelines.stable_diffusion.safety_checker.StableDiffusionSafetyChecker(_clip())
    checker.concept_embeds_weights.data.fill_(-2)  # no two vectors are that unlike
    own = {"safety_checker": checker, "feature_extractor": _eyes(), "requires_safety_checker": True}
    type(pipe)(**{**pipe.components, **own}).save_pretrained(folder)
    return folder


def instruct_pix2pix(folder: Path) -> Path:
    """As timbrooks/instruct-pix2pix: the UNet sees the picture beside the noise."""
    parts = {**_sd_pipeline(_unet(8)).components, "requires_safety_checker": False}
    models.StableDiffusionInstructPix2PixPipeline(**parts).save_pretrained(folder)
    return folder


def stable_diffusion_xl(folder: Path) -> Path:
    """As SDXL: two text encoders, whose outputs the UNet gets side by side."""
    torch.manual_seed(1)
    second = encoders.CLIPTextConfig(**{**TEXT, "hidden_size": 24, "projection_dim": 24})
    models.StableDiffusionXLPipeline(
        vae=_vae(),
        text_encoder=encoders.CLIPTextModel(encoders.CLIPTextConfig(**TEXT)),
        text_encoder_2=encoders.CLIPTextModelWithProjection(second),
        tokenizer=_tokenizer(),
        tokenizer_2=_tokenizer(),
        unet=_unet(
            4,
            cross_attention_dim=16 + 24,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=24 + 6 * 8,
        ),
        scheduler=models.EulerDiscreteScheduler(**NOISE, timestep_spacing="leading"),
    ).save_pretrained(folder)
    return folder


CHECKPOINTS: dict[str, Callable[[Path], Path]] = {
    "sd": stable_diffusion,
    "sd-checked": checked_stable_diffusion,
    "sdxl": stable_diffusion_xl,
    "pix2pix": instruct_pix2pix,
}


def _sd_pipeline(unet: Any) -> Any:
    return models.StableDiffusionPipeline(
        vae=_vae(),
        text_encoder=encoders.CLIPTextModel(encoders.CLIPTextConfig(**TEXT)),
        tokenizer=_tokenizer(),
        unet=unet,
        scheduler=models.PNDMScheduler(**NOISE, skip_prk_steps=True),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def _unet(channels: int, **more: Any) -> Any:
    torch.manual_seed(0)
    return models.UNet2DConditionModel(
        in_channels=channels,
        out_channels=4,
        sample_size=8,
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        attention_head_dim=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        **{"cross_attention_dim": 16, **more},
    )


def _vae() -> Any:
    return models.AutoencoderKL(
        block_out_channels=(4, 4, 4, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=2,
        latent_channels=4,
        sample_size=64,
    )


def _tokenizer() -> Any:
    return encoders.CLIPTokenizer.from_pretrained(DEMO_MODELS / "text-to-image" / "tokenizer")


def _clip() -> Any:
    vision = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_attention_heads": 2,
        "num_hidden_layers": 1,
        "image_size": 32,
        "patch_size": 16,
        "projection_dim": 16,
    }
    return encoders.CLIPConfig(text_config=TEXT, vision_config=vision, projection_dim=16)


def _eyes() -> Any:
    return encoders.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
