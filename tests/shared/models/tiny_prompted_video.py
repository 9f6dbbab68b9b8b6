"""Checkpoints as those of LTX-Video and Wan, with random weights: everything but the videos is real."""

import string
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers

models: Any = diffusers  # it is not typed
encoders: Any = transformers
WIDTH = 16  # of an embedding
VOCABULARY = ["<pad>", "</s>", "<unk>", "▁", *string.ascii_lowercase]
CHANNELS = 4  # of a latent
STEPS_IN_TIME = 4  # frames of a Wan latent, each with a channel of the mask


def ltx(folder: Path, *, denoising_decoder: bool = False, class_name: str = "LTXPipeline") -> Path:
    """As Lightricks publishes them, with the class of the pipeline that draws from text.

    `denoising_decoder`: the decoder does the last step itself, as that of 0.9.1.
    """
    torch.manual_seed(0)
    getattr(models, class_name)(
        vae=_ltx_autoencoder(denoising_decoder=denoising_decoder),
        text_encoder=encoders.T5EncoderModel(encoders.T5Config(**_text_encoder())),
        tokenizer=_tokenizer(),
        transformer=models.LTXVideoTransformer3DModel(
            in_channels=CHANNELS,
            out_channels=CHANNELS,
            num_attention_heads=2,
            attention_head_dim=8,
            cross_attention_dim=WIDTH,
            num_layers=1,
            caption_channels=WIDTH,
        ),
        scheduler=models.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift_terminal=0.1),
    ).save_pretrained(folder)
    return folder


def wan_21(folder: Path) -> Path:
    """As Wan2.1-I2V: the picture is seen by an image encoder too."""
    torch.manual_seed(0)
    eyes = encoders.CLIPVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=32,
        patch_size=16,
    )
    models.WanImageToVideoPipeline(
        **_wan(),
        transformer=_wan_transformer(image_dim=WIDTH, added_kv_proj_dim=WIDTH),
        image_encoder=encoders.CLIPVisionModel(eyes),
        image_processor=encoders.CLIPImageProcessor(size=32, crop_size=32),
    ).save_pretrained(folder)
    return folder


def wan_22_two_stages(folder: Path) -> Path:
    """As Wan2.2-I2V-A14B: one transformer for the noise, one for what is left of it."""
    torch.manual_seed(0)
    models.WanImageToVideoPipeline(
        **_wan(), transformer=_wan_transformer(), transformer_2=_wan_transformer(), boundary_ratio=0.9
    ).save_pretrained(folder)
    return folder


def wan_22_small(folder: Path, *, expand_timesteps: bool = True) -> Path:
    """As Wan2.2-TI2V-5B: the class of the pipeline that draws from text, and a decoder of patches."""
    torch.manual_seed(0)
    models.WanPipeline(
        **_wan(is_residual=True, patch_size=2, in_channels=12, out_channels=12, scale_factor_spatial=16),
        transformer=_wan_transformer(in_channels=CHANNELS),
        expand_timesteps=expand_timesteps,
    ).save_pretrained(folder)
    return folder


def _wan(**autoencoder: Any) -> dict[str, Any]:
    return {
        "vae": models.AutoencoderKLWan(
            base_dim=8,
            z_dim=CHANNELS,
            dim_mult=[1, 1, 1, 1],
            num_res_blocks=1,
            latents_mean=[0.1] * CHANNELS,
            latents_std=[1.5] * CHANNELS,
            **autoencoder,
        ),
        "text_encoder": encoders.UMT5EncoderModel(encoders.UMT5Config(**_text_encoder())),
        "tokenizer": _tokenizer(),
        "scheduler": models.UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
        ),
    }


def _wan_transformer(*, in_channels: int = CHANNELS + STEPS_IN_TIME + CHANNELS, **more: Any) -> Any:
    return models.WanTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=in_channels,
        out_channels=CHANNELS,
        text_dim=WIDTH,
        freq_dim=8,
        ffn_dim=WIDTH,
        num_layers=1,
        rope_max_seq_len=32,
        **more,
    )


def _ltx_autoencoder(*, denoising_decoder: bool) -> Any:
    return models.AutoencoderKLLTXVideo(
        latent_channels=CHANNELS,
        block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1, 1),
        timestep_conditioning=denoising_decoder,
    )


def _text_encoder() -> dict[str, Any]:
    return {
        "vocab_size": len(VOCABULARY),
        "d_model": WIDTH,
        "d_kv": 8,
        "d_ff": WIDTH,
        "num_layers": 1,
        "num_heads": 2,
    }


def _tokenizer() -> Any:
    scores = [(piece, 0.0 if piece.startswith("<") else -1.0) for piece in VOCABULARY]
    return encoders.T5TokenizerFast(vocab=scores, extra_ids=0)
