"""Train demo/text-to-image: a StableDiffusionPipeline of a few MB that draws what the prompt says.

python -m templates.demo_models.train.text_to_image --out /tmp/text-to-image --seed 0
"""

import argparse
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from transformers import CLIPTokenizer

from templates.demo_models.train import shapes
from templates.demo_models.train.autoencoder import encode, train_autoencoder
from templates.demo_models.train.averaged import Averaged, lowered
from templates.demo_models.train.budget import Budget
from templates.demo_models.train.checkpoint import (
    Denoiser,
    Parts,
    Scheduler,
    load_parts,
    make_denoiser,
    make_scheduler,
)
from templates.demo_models.train.options import add_budget, make_parser
from templates.demo_models.train.phrasing import WORDS, loose_caption
from templates.demo_models.train.tokenizer import train_tokenizer

PICTURES = 30_000
CAPTIONS_PER_PICTURE = 6
BATCH = 64
LEARNING_RATE = 1.5e-3
UNCONDITIONED = 0.1  # share of samples without a caption, for classifier-free guidance
SAVE_EVERY = 500  # steps
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Data:
    """Pictures (n, 64, 64, 3) as bytes and their captions (n, k, tokens) as token ids."""

    pixels: Tensor
    tokens: Tensor
    no_caption: Tensor


def make_tokenizer() -> CLIPTokenizer:
    """The tokenizer of everything that a caption may say."""
    return train_tokenizer([*WORDS, *map(shapes.caption, shapes.training_scenes())])


def make_data(tokenizer: CLIPTokenizer, seed: int, device: str) -> Data:
    """Draws and captions random training scenes."""
    rng = np.random.default_rng(seed)
    known = shapes.training_scenes()
    scenes = [known[number] for number in rng.integers(0, len(known), PICTURES)]
    pixels = np.stack([shapes.draw(scene, shapes.place(scene, rng)) for scene in scenes])
    captions = [loose_caption(scene, rng) for scene in scenes for _ in range(CAPTIONS_PER_PICTURE)]
    tokens = _tokenize(tokenizer, captions).view(PICTURES, CAPTIONS_PER_PICTURE, -1)
    log.info("drew %d pictures; %d words", PICTURES, len(tokenizer))
    return Data(torch.from_numpy(pixels).to(device), tokens.to(device), _tokenize(tokenizer, [""])[0].to(device))


def _tokenize(tokenizer: CLIPTokenizer, captions: list[str]) -> Tensor:
    encoded = tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt")
    tokens: Tensor = encoded.input_ids
    return tokens


def train_denoiser(parts: Parts, data: Data, budget: Budget, rate: float, out: Path) -> Parts:
    """Trains `parts.denoiser`; returns the parts with its running average, which is also saved on the way."""
    denoiser, latents = parts.denoiser, encode(parts.autoencoder, data.pixels)
    optimizer = torch.optim.AdamW(denoiser.parameters(), rate, weight_decay=0.01, betas=(0.9, 0.99))
    learning = Averaged(denoiser, optimizer)
    trained = Parts(parts.autoencoder, learning.average, parts.tokenizer, parts.scheduler)
    recent = 1.0
    for step, done in budget:
        loss = _loss(denoiser, parts.scheduler, latents, data)
        learning.learn(loss, step, lowered(done, 2))
        recent += 0.02 * (loss.item() - recent)
        if step % 100 == 0:
            log.info("denoiser step %d (%.0f %%): loss %.4f", step, 100 * done, recent)
        if step % SAVE_EVERY == SAVE_EVERY - 1:
            trained.save(out)
    return trained


def _loss(denoiser: Denoiser, scheduler: Scheduler, latents: Tensor, data: Data) -> Tensor:
    """Squared error of the predicted velocity on one random batch (Salimans & Ho 2022, arXiv:2202.00512)."""
    chosen = torch.randint(0, len(latents), (BATCH,))
    captions = torch.randint(0, CAPTIONS_PER_PICTURE, (BATCH,))
    times = _late_times(scheduler.config.num_train_timesteps).to(latents.device)
    clean, tokens = latents[chosen], data.tokens[chosen, captions]
    tokens[torch.rand(BATCH) < UNCONDITIONED] = data.no_caption
    noise = torch.randn(clean.shape).to(clean.device)
    noisy = scheduler.add_noise(clean, noise, times)
    return functional.mse_loss(denoiser(noisy, times, tokens), scheduler.get_velocity(clean, noise, times))


def _late_times(count: int) -> Tensor:
    """A random time per sample, half of them in the last quarter: what a prompt decides, it decides in the noise."""
    return (count * (1 - torch.rand(BATCH) ** 2)).long().clamp(max=count - 1)


def train(options: argparse.Namespace) -> None:
    """The whole recipe: draw, tokenize, compress, denoise, save."""
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    parts = load_parts(options.resume, options.device) if options.resume else None
    tokenizer = parts.tokenizer if parts else make_tokenizer()
    data = make_data(tokenizer, options.seed, options.device)
    if parts is None:
        autoencoder = train_autoencoder(data.pixels, Budget(options.vae_minutes, options.vae_steps))
        parts = Parts(autoencoder, make_denoiser(tokenizer).to(options.device), tokenizer, make_scheduler())
    budget = Budget(options.unet_minutes, options.unet_steps)
    train_denoiser(parts, data, budget, options.unet_rate, options.out).save(options.out)
    log.info("saved %s", options.out)


def read_options() -> argparse.Namespace:
    parser = make_parser(__doc__, resume="checkpoint to go on from; its autoencoder is kept")
    add_budget(parser, stage="vae", minutes=10)
    add_budget(parser, stage="unet", minutes=28)
    parser.add_argument("--unet-rate", type=float, default=LEARNING_RATE, help="learning rate; less where resumed")
    return parser.parse_args()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    train(read_options())
