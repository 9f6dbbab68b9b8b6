"""A checkpoint as Stable Video Diffusion's, with random weights: everything but the videos is real."""

from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers

models: Any = diffusers  # it is not typed
encoders: Any = transformers
FRAMES = 4
SEEN = 16  # width of the picture's embedding
CELLS = 32  # its networks norm their channels in groups of so many


def stable_video_diffusion(folder: Path) -> Path:
    """Its UNet halves once, so that sides are multiples of 16; it is told of fps, motion and noise."""
    torch.manual_seed(0)
    models.StableVideoDiffusionPipeline(
        vae=_autoencoder(),
        image_encoder=_eyes(),
        unet=_unet(),
        scheduler=scheduler(),
        feature_extractor=encoders.CLIPImageProcessor(),
    ).save_pretrained(folder)
    return folder


def scheduler() -> Any:
    """As the published checkpoints'."""
    return models.EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        timestep_spacing="leading",
        timestep_type="continuous",
        use_karras_sigmas=True,
        sigma_min=0.002,
        sigma_max=700.0,
        steps_offset=1,
    )


def _unet() -> Any:
    return models.UNetSpatioTemporalConditionModel(
        sample_size=8,
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        block_out_channels=(CELLS, CELLS),
        layers_per_block=1,
        num_attention_heads=2,
        cross_attention_dim=SEEN,
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=3 * 8,
        num_frames=FRAMES,
    )


def _autoencoder() -> Any:
    return models.AutoencoderKLTemporalDecoder(
        down_block_types=("DownEncoderBlock2D",) * 4,
        block_out_channels=(CELLS,) * 4,
        layers_per_block=1,
        sample_size=64,
    )


def _eyes() -> Any:
    """The pipeline shows it pictures of 224 pixels a side, whatever it was made for."""
    return encoders.CLIPVisionModelWithProjection(
        encoders.CLIPVisionConfig(
            hidden_size=16,
            intermediate_size=32,
            projection_dim=SEEN,
            num_hidden_layers=1,
            num_attention_heads=2,
            image_size=224,
            patch_size=56,
        )
    )
