"""The parts of an image-to-video checkpoint: made, saved, loaded again."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

from templates.demo_models.train.movies import FRAMES
from templates.demo_models.train.video_autoencoder import LATENT_CHANNELS, Autoencoder

EMBEDDING = 64
TIME_WIDTH = 32
SEEN_SIDE = 224  # the pipeline always shows the image encoder pictures of this size
library: Any = diffusers  # it is not typed
UNet = Any  # its UNetSpatioTemporalConditionModel
Scheduler = Any  # its EulerDiscreteScheduler


class VideoDenoiser(nn.Module):
    """The UNet and the image encoder, trained as one."""

    def __init__(self, unet: UNet, image_encoder: CLIPVisionModelWithProjection) -> None:
        super().__init__()
        self.unet, self.image_encoder = unet, image_encoder

    def forward(self, latents: Tensor, times: Tensor, seen: Tensor, conditions: Tensor) -> Tensor:
        """The network's output for latents (n, frames, 16, height, width), of which the picture's are the last 8.

        `seen` (n, 64) are embeddings, zeros where unconditioned; `conditions` (n, 3) are fps - 1, the motion bucket
        and the strength of the picture's noise.
        """
        output: Tensor = self.unet(latents, times, seen[:, None], conditions, return_dict=False)[0]
        return output

    def see(self, pictures: Tensor) -> Tensor:
        """Embeddings (n, 64) of pictures between -1 and 1, enlarged as the pipeline does it."""
        large = functional.interpolate(pictures, (SEEN_SIDE, SEEN_SIDE), mode="bicubic", align_corners=True)
        embeddings: Tensor = self.image_encoder(large).image_embeds
        return embeddings


@dataclass(frozen=True)
class Parts:
    """All that a checkpoint is made of."""

    autoencoder: Autoencoder
    denoiser: VideoDenoiser
    scheduler: Scheduler

    def save(self, folder: Path) -> None:
        """Writes the pipeline, its large networks in half precision, readable by all."""
        pipeline = library.StableVideoDiffusionPipeline(
            vae=copy.deepcopy(self.autoencoder).half(),
            image_encoder=copy.deepcopy(self.denoiser.image_encoder),  # transformers would load halves as halves
            unet=copy.deepcopy(self.denoiser.unet).half(),
            scheduler=self.scheduler,
            feature_extractor=CLIPImageProcessor(image_mean=[0.5] * 3, image_std=[0.5] * 3),
        )
        pipeline.save_pretrained(folder)
        for file in folder.rglob("*.safetensors"):
            file.chmod(0o644)  # transformers writes them as 0600


def make_denoiser() -> VideoDenoiser:
    """An untrained UNet over clips of 8x8 latents with an image encoder."""
    vision = CLIPVisionConfig(
        hidden_size=EMBEDDING // 2,
        intermediate_size=EMBEDDING,
        projection_dim=EMBEDDING,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=SEEN_SIDE,
        patch_size=28,
    )
    unet = library.UNetSpatioTemporalConditionModel(
        sample_size=8,
        in_channels=2 * LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        down_block_types=("DownBlockSpatioTemporal", "CrossAttnDownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal",) * 2,
        block_out_channels=(64, 64),
        layers_per_block=1,
        num_attention_heads=4,
        cross_attention_dim=EMBEDDING,
        addition_time_embed_dim=TIME_WIDTH,
        projection_class_embeddings_input_dim=3 * TIME_WIDTH,
        num_frames=FRAMES,
    )
    return VideoDenoiser(unet, CLIPVisionModelWithProjection(vision))


def make_scheduler() -> Scheduler:
    """Stable Video Diffusion's, from less noise: 80 deviations hide 8x8 latents as well as its 700."""
    return library.EulerDiscreteScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        prediction_type="v_prediction",
        timestep_spacing="leading",
        timestep_type="continuous",
        use_karras_sigmas=True,
        sigma_min=0.002,
        sigma_max=80.0,
        steps_offset=1,
    )


def load_parts(folder: Path, device: str) -> Parts:
    """The parts of a saved checkpoint in full precision, to train on."""
    pipeline = library.StableVideoDiffusionPipeline.from_pretrained(folder).to(device)
    denoiser = VideoDenoiser(pipeline.unet, pipeline.image_encoder)
    return Parts(pipeline.vae.requires_grad_(False), denoiser, pipeline.scheduler)
