"""Train a small autoencoder of clips: single pictures in, 8x8 latents, and a decoder that sees several frames."""

import copy
import logging
import math
from typing import Any

import diffusers
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from templates.demo_models.train.autoencoder import to_unit
from templates.demo_models.train.budget import Budget
from templates.demo_models.train.movies import FRAMES, film, random_movie
from templates.demo_models.train.shapes import Pixels, Rng

WIDTHS = (96, 64, 32, 64)
LATENT_CHANNELS = 8
LENGTHS = (1, 2, 4, 8)  # frames that are decoded together
SMALL_UNTIL = 0.6  # share of the training at half the size, where a step takes half of the time
LEARNING_RATE = 1e-3
SPREAD = 2.0
LATENT_NOISE = 0.05  # makes the latents smooth, which a denoiser needs
SIDE = 64
JUDGED = 32  # movies by which the trained autoencoder's latents are scaled
library: Any = diffusers  # it is not typed
Autoencoder = Any  # its AutoencoderKLTemporalDecoder
log = logging.getLogger(__name__)


def train_autoencoder(budget: Budget, rng: Rng, device: str) -> Autoencoder:
    """An autoencoder of training scenes' movies, its `scaling_factor` set so that latents have a deviation of 1.

    The residual blocks at full size, most of the work, stay out of the training: they pass on what they are given.
    """
    model = _build().to(device)
    _idle_full_size_blocks(model)
    _train(model, list(model.parameters()), budget, rng, SMALL_UNTIL)
    _calibrate(model.eval().requires_grad_(False), rng)
    _restore_full_size_blocks(model)
    return model


def refine_decoder(model: Autoencoder, budget: Budget, rng: Rng) -> Autoencoder:
    """A copy with a better decoder; latents stay as they are, so a denoiser of them may be trained meanwhile."""
    refined = thin(model)
    _train(refined, list(refined.decoder.requires_grad_(True).parameters()), budget, rng, small_until=0.0)
    _restore_full_size_blocks(refined.eval().requires_grad_(False))
    return refined


def _train(model: Autoencoder, weights: list[nn.Parameter], budget: Budget, rng: Rng, small_until: float) -> None:
    optimizer = torch.optim.AdamW(weights, LEARNING_RATE, weight_decay=0.0)
    recent = 1.0
    for step, done in budget:
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * min(1, (step + 1) / 20) * max(0.02, 1 - done)
        length = LENGTHS[step % len(LENGTHS)]
        pixels = _batch(rng, length, SIDE // 2 if done < small_until else SIDE)
        loss = _loss(model, to_unit(torch.from_numpy(pixels).to(model.device)), length)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        recent += 0.05 * (loss.item() - recent)
        if step % 50 == 0:
            log.info("autoencoder step %d (%.0f %%): loss %.4f", step, 100 * done, recent)


def thin(model: Autoencoder) -> Autoencoder:
    """A copy that does not compute the blocks that change nothing, for many pictures."""
    copied = copy.deepcopy(model)
    _idle_full_size_blocks(copied)
    return copied


@torch.no_grad()
def encode(model: Autoencoder, pictures: Tensor) -> Tensor:
    """Latents (n, 8, height / 8, width / 8) of pictures (n, 3, height, width) between -1 and 1, not scaled."""
    parts = [model.encode(pictures[start : start + 64]).latent_dist.mode() for start in range(0, len(pictures), 64)]
    return torch.cat(parts)


class Idle(nn.Module):
    """What is left of a residual block whose branches add nothing."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block, self.shortcut = [block], _shortcut(block)

    def forward(self, hidden: Tensor, *_: Any, **__: Any) -> Tensor:
        passed: Tensor = self.shortcut(hidden)
        return passed


def _shortcut(block: Any) -> nn.Module:
    """The layer by which a residual block changes the number of channels, or none."""
    layer: nn.Module = getattr(block, "spatial_res_block", block).conv_shortcut or nn.Identity()
    return layer


def _build() -> Autoencoder:
    """An untrained autoencoder, whose residual blocks begin by changing nothing."""
    model = library.AutoencoderKLTemporalDecoder(
        down_block_types=("DownEncoderBlock2D",) * len(WIDTHS),
        block_out_channels=WIDTHS,
        latent_channels=LATENT_CHANNELS,
        sample_size=SIDE,
    )
    for name, layer in model.named_modules():
        if name.endswith("conv2"):
            nn.init.zeros_(layer.weight)
        elif name.endswith("conv_shortcut"):
            nn.init.orthogonal_(layer.weight)
        elif "samplers" in name and isinstance(layer, nn.Conv2d):
            nn.init.dirac_(layer.weight)
    nn.init.dirac_(model.quant_conv.weight)
    for layer in (model.encoder.conv_in, model.encoder.conv_out, model.decoder.conv_in, model.decoder.conv_out):
        layer.weight.data *= 3  # default weights make each signal weaker, until the first steps drown it
    _let_flat_colours_through(model)
    return model


@torch.no_grad()
def _let_flat_colours_through(model: Autoencoder) -> None:
    """Gives every group of the two last normalisations a channel of known contrast.

    They have 32 groups, so only 2 or 3 channels each: without it, a flat colour is normalised away.
    """
    encoded = model.encoder.mid_block.resnets[-1]
    encoded.norm2.weight[0], encoded.norm2.bias[0] = 0, 2.0
    edges = torch.tensor([[0, 0, 0], [SPREAD, 0, -SPREAD], [0, 0, 0]])  # seen by the padding at the border only
    encoded.conv2.weight[1::4, 0], encoded.conv2.weight[3::4, 0] = edges, edges.T
    decoded = model.decoder.up_blocks[-1].resnets[0].spatial_res_block.conv_shortcut
    decoded.weight *= 2
    decoded.bias[:] = torch.tensor([0, SPREAD, -SPREAD]).repeat(WIDTHS[0] // 3)


def _idle_full_size_blocks(model: Autoencoder) -> None:
    """Makes the first and the last residual blocks pass on what they get, without computing their branches."""
    for level in _full_size_levels(model):
        for name, weight in level.resnets.named_parameters():
            if ".conv2." in name:
                nn.init.zeros_(weight)
        level.resnets = nn.ModuleList(Idle(block) for block in level.resnets)


def _restore_full_size_blocks(model: Autoencoder) -> None:
    for level in _full_size_levels(model):
        level.resnets = nn.ModuleList(idle.block[0] for idle in level.resnets)


def _full_size_levels(model: Autoencoder) -> tuple[Any, Any]:
    return model.encoder.down_blocks[0], model.decoder.up_blocks[-1]


def _batch(rng: Rng, length: int, side: int) -> Pixels:
    """Clips of `length` frames in a row as (frames, side, side, 3)."""
    clips = []
    for _ in range((FRAMES if side == SIDE else 2 * FRAMES) // length):
        first = rng.integers(0, FRAMES - length + 1)
        clips.append(film(random_movie(rng)[1], side)[first : first + length])
    return np.concatenate(clips)


def _loss(model: Autoencoder, batch: Tensor, length: int) -> Tensor:
    latents = model.encode(batch).latent_dist.mode()
    noisy = latents + LATENT_NOISE * torch.randn(latents.shape).to(latents.device)
    decoded = model.decode(noisy, num_frames=length).sample
    small: Tensor = 1e-3 * latents.pow(2).mean()
    return functional.l1_loss(decoded, batch) + functional.mse_loss(decoded, batch) + small


@torch.no_grad()
def _calibrate(model: Autoencoder, rng: Rng) -> None:
    """States the latents' deviation, and the noise of training as that of every posterior."""
    films = np.concatenate([film(random_movie(rng)[1]) for _ in range(JUDGED)])
    frames = to_unit(torch.from_numpy(films).to(model.device))
    latents = encode(model, frames)
    decoded = torch.cat([model.decode(part, num_frames=FRAMES).sample for part in torch.split(latents, FRAMES)])
    error = functional.mse_loss(decoded.clamp(-1, 1), frames).item()
    model.quant_conv.weight[LATENT_CHANNELS:] = 0
    model.quant_conv.bias[LATENT_CHANNELS:] = 2 * math.log(LATENT_NOISE)
    model.register_to_config(scaling_factor=round(1 / latents.std().item(), 4))
    log.info("autoencoder: %.2f dB, scaling factor %.4f", 10 * math.log10(4 / error), model.config.scaling_factor)
