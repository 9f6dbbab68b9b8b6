"""Train a small picture autoencoder (the TAESD architecture, 8x, 4 latent channels)."""

import logging
from typing import Any

import diffusers
import torch
from torch import Tensor
from torch.nn import functional

from templates.demo_models.train.budget import Budget

LEVELS = 4
CHANNELS = 32
BATCH = 24
LEARNING_RATE = 2e-3
LATENT_NOISE = 0.05  # makes the latents smooth, which a denoiser needs
library: Any = diffusers  # it is not typed
Autoencoder = Any  # its AutoencoderTiny
log = logging.getLogger(__name__)


def to_unit(pixels: Tensor) -> Tensor:
    """Bytes (n, height, width, 3) to floats (n, 3, height, width) between -1 and 1."""
    return pixels.permute(0, 3, 1, 2).float() / 127.5 - 1


def train_autoencoder(pixels: Tensor, budget: Budget) -> Autoencoder:
    """An autoencoder of the pictures, its `scaling_factor` set so that latents have a deviation of 1."""
    model = _build().to(pixels.device, memory_format=torch.channels_last)  # a quarter faster on a CPU
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, weight_decay=0.0)
    for step, done in budget:
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * min(1, (step + 1) / 50) * max(0.02, 1 - done)
        batch = to_unit(pixels[torch.randint(0, len(pixels), (BATCH,))])
        loss = _loss(model, batch)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % 100 == 0:
            log.info("autoencoder step %d (%.0f %%): loss %.4f", step, 100 * done, loss.item())
    return _calibrated(model.eval().requires_grad_(False), pixels)


@torch.no_grad()
def encode(model: Autoencoder, pixels: Tensor) -> Tensor:
    """Scaled latents (n, 4, height / 8, width / 8) of many pictures."""
    parts = [model.encoder(to_unit(pixels[start : start + 64])) for start in range(0, len(pixels), 64)]
    return torch.cat(parts) * float(model.config.scaling_factor)


def _build() -> Autoencoder:
    widths, blocks = (CHANNELS,) * LEVELS, (1,) * LEVELS
    return library.AutoencoderTiny(
        encoder_block_out_channels=widths,
        decoder_block_out_channels=widths,
        num_encoder_blocks=blocks,
        num_decoder_blocks=blocks,
        latent_channels=4,
    )


def _loss(model: Autoencoder, batch: Tensor) -> Tensor:
    latents = model.encoder(batch)
    decoded = model.decoder(latents + LATENT_NOISE * torch.randn_like(latents))
    small: Tensor = 1e-3 * latents.pow(2).mean()
    return functional.l1_loss(decoded, batch) + functional.mse_loss(decoded, batch) + small


@torch.no_grad()
def _calibrated(model: Autoencoder, pixels: Tensor) -> Autoencoder:
    sample = pixels[:512]
    latents = encode(model, sample) / model.config.scaling_factor
    error = functional.mse_loss(model.decoder(latents), to_unit(sample))
    model.register_to_config(scaling_factor=round(1 / latents.std().item(), 4))
    log.info("autoencoder: %.2f dB, scaling factor %.4f", 10 * torch.log10(4 / error), model.config.scaling_factor)
    return model
