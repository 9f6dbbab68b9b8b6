"""The parts of a text-to-image checkpoint: made, saved, loaded again."""

import copy
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from templates.demo_models.train.autoencoder import Autoencoder

TEXT_WIDTH = 96
library: Any = diffusers  # it is not typed
UNet = Any  # its UNet2DConditionModel
Scheduler = Any  # its DDIMScheduler


class Denoiser(nn.Module):
    """The UNet and the text encoder, trained as one."""

    def __init__(self, unet: UNet, text_encoder: CLIPTextModel) -> None:
        super().__init__()
        self.unet, self.text_encoder = unet, text_encoder

    def forward(self, latents: Tensor, times: Tensor, tokens: Tensor) -> Tensor:
        words = self.text_encoder(tokens).last_hidden_state
        prediction: Tensor = self.unet(latents, times, words, return_dict=False)[0]
        return prediction


@dataclass(frozen=True)
class Parts:
    """All that a checkpoint is made of."""

    autoencoder: Autoencoder
    denoiser: Denoiser
    tokenizer: CLIPTokenizer
    scheduler: Scheduler

    def save(self, folder: Path) -> None:
        """Writes the pipeline, its large networks in half precision, readable by all."""
        pipeline = library.StableDiffusionPipeline(
            vae=copy.deepcopy(self.autoencoder),
            text_encoder=copy.deepcopy(self.denoiser.text_encoder),
            unet=copy.deepcopy(self.denoiser.unet),
            tokenizer=self.tokenizer,
            scheduler=self.scheduler,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        pipeline.vae.half()
        pipeline.unet.half()  # not the text encoder: transformers would load it as such, beside a float32 UNet
        pipeline.save_pretrained(folder)
        _tidy(folder)


def _tidy(folder: Path) -> None:
    for file in folder.rglob("*.safetensors"):
        file.chmod(0o644)  # transformers writes them as 0600
    path = folder / "vae" / "config.json"
    config = json.loads(path.read_text())
    del config["block_out_channels"]  # AutoencoderTiny writes it, and warns when it reads it
    path.write_text(json.dumps(config, indent=2) + "\n")


def make_denoiser(tokenizer: CLIPTokenizer) -> Denoiser:
    """An untrained UNet over 8x8 latents with a text encoder, 2.7 million parameters."""
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_WIDTH,
        intermediate_size=3 * TEXT_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=tokenizer.model_max_length,
        projection_dim=TEXT_WIDTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    unet = library.UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(48, 96),
        layers_per_block=1,
        cross_attention_dim=TEXT_WIDTH,
        down_block_types=("CrossAttnDownBlock2D",) * 2,
        up_block_types=("CrossAttnUpBlock2D",) * 2,
        attention_head_dim=4,  # diffusers reads this as the number of heads
        norm_num_groups=16,
    )
    return Denoiser(unet, CLIPTextModel(text))


def make_scheduler() -> Scheduler:
    """Velocity prediction down to pure noise: without it no flat background gets its colour right."""
    return library.DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        steps_offset=1,  # unused by trailing steps, but the pipeline asks for it
    )


def load_parts(folder: Path, device: str) -> Parts:
    """The parts of a saved checkpoint in full precision, to train on."""
    pipeline = library.StableDiffusionPipeline.from_pretrained(folder).to(device)
    denoiser = Denoiser(pipeline.unet, pipeline.text_encoder)
    return Parts(pipeline.vae.requires_grad_(False), denoiser, pipeline.tokenizer, pipeline.scheduler)
