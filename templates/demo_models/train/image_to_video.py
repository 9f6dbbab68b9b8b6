"""Train demo/image-to-video: a StableVideoDiffusionPipeline of a few MB in which the shape of a picture moves.

python -m templates.demo_models.train.image_to_video --out /tmp/image-to-video --seed 0
"""

import argparse
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from templates.demo_models.train.autoencoder import to_unit
from templates.demo_models.train.averaged import Averaged, lowered
from templates.demo_models.train.budget import Budget
from templates.demo_models.train.movies import FRAMES, film, random_movie
from templates.demo_models.train.options import add_budget, make_parser
from templates.demo_models.train.shapes import Rng
from templates.demo_models.train.video_autoencoder import (
    Autoencoder,
    encode,
    refine_decoder,
    thin,
    train_autoencoder,
)
from templates.demo_models.train.video_checkpoint import (
    Parts,
    Scheduler,
    VideoDenoiser,
    load_parts,
    make_denoiser,
    make_scheduler,
)

MOVIES = 2_500
BATCH = 8
LEARNING_RATE = 1.5e-3
UNCONDITIONED = 0.1  # share of samples without a picture, for classifier-free guidance
NOISE_LEVEL = (1.5, 1.6)  # mean and deviation of the logarithm; motion is decided in the noise
PICTURE_NOISE = (-3.0, 1.0)  # the same for the noise on the given picture
MOST_FPS = 30
SAVE_EVERY = 200  # steps
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Data:
    """Latents of movies (n, frames, 8, 8, 8) and of their given pictures (n, 8, 8, 8), which are not scaled.

    The pictures themselves (n, 3, 64, 64) are without noise; conditions (n, 2) are motion bucket and picture noise.
    """

    movies: Tensor
    given: Tensor
    pictures: Tensor
    conditions: Tensor


def make_data(autoencoder: Autoencoder, count: int, rng: Rng, device: str) -> Data:
    """Draws and encodes movies of random training scenes, the given pictures with noise as the pipeline adds it."""
    autoencoder, scale = thin(autoencoder), float(autoencoder.config.scaling_factor)
    movies, given, pictures, conditions = [], [], [], []
    for _ in range(count):
        bucket, motion = random_movie(rng)
        strength = float(np.exp(rng.normal(*PICTURE_NOISE)))
        frames = to_unit(torch.from_numpy(film(motion)).to(device))
        noise = torch.from_numpy(rng.standard_normal(frames[:1].shape, np.float32)).to(device)
        latents = encode(autoencoder, torch.cat([frames, frames[:1] + strength * noise]))
        movies.append(scale * latents[:FRAMES])
        given.append(latents[FRAMES])
        pictures.append(frames[0])
        conditions.append([bucket, strength])
    log.info("drew %d movies", count)
    return Data(
        torch.stack(movies), torch.stack(given), torch.stack(pictures), torch.tensor(conditions, device=device)
    )


def train_denoiser(parts: Parts, data: Data, budget: Budget, rate: float, out: Path) -> Parts:
    """Trains `parts.denoiser`; returns the parts with its running average, which is also saved on the way."""
    optimizer = torch.optim.AdamW(parts.denoiser.parameters(), rate, weight_decay=0.01, betas=(0.9, 0.99))
    learning = Averaged(parts.denoiser, optimizer)
    trained = Parts(parts.autoencoder, learning.average, parts.scheduler)
    recent = 1.0
    for step, done in budget:
        loss = _loss(parts.denoiser, parts.scheduler, data)
        learning.learn(loss, step, lowered(done, 2))
        recent += 0.02 * (loss.item() - recent)
        if step % 50 == 0:
            log.info("denoiser step %d (%.0f %%): loss %.4f", step, 100 * done, recent)
        if step % SAVE_EVERY == SAVE_EVERY - 1:
            trained.save(out)
    return trained


def _loss(denoiser: VideoDenoiser, scheduler: Scheduler, data: Data) -> Tensor:
    """Squared error of the network's output, which is EDM's weighted error (Karras et al. 2022, arXiv:2206.00364).

    Latents have a deviation of 1, so the wanted output is the velocity that EulerDiscreteScheduler expects.
    """
    chosen = torch.randint(0, len(data.movies), (BATCH,))
    clean, device = data.movies[chosen], data.movies.device
    kept = (torch.rand(BATCH) >= UNCONDITIONED).float().to(device)
    sigma = _noise_levels(scheduler).to(device)
    level = sigma.view(-1, 1, 1, 1, 1)
    noisy = clean + level * torch.randn(clean.shape).to(device)
    given = (data.given[chosen] * kept.view(-1, 1, 1, 1))[:, None].expand(-1, FRAMES, -1, -1, -1)
    seen = denoiser.see(data.pictures[chosen]) * kept[:, None]
    conditions = torch.cat([torch.randint(0, MOST_FPS, (BATCH, 1)).to(device), data.conditions[chosen]], dim=1)
    scaled = noisy / (level**2 + 1).sqrt()
    output = denoiser(torch.cat([scaled, given], dim=2), 0.25 * sigma.log(), seen, conditions)
    velocity = (noisy / (level**2 + 1) - clean) * (level**2 + 1).sqrt() / level
    return functional.mse_loss(output, velocity)


def _noise_levels(scheduler: Scheduler) -> Tensor:
    """A random deviation of the noise per sample, within those that the scheduler asks for."""
    mean, deviation = NOISE_LEVEL
    levels = (mean + deviation * torch.randn(BATCH)).exp()
    return levels.clamp(scheduler.config.sigma_min, scheduler.config.sigma_max)


def train(options: argparse.Namespace) -> None:
    """The whole recipe: draw, compress, denoise, save."""
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    rng = np.random.default_rng(options.seed)
    parts = load_parts(options.resume, options.device) if options.resume else None
    if parts is None:
        autoencoder = train_autoencoder(Budget(options.vae_minutes, options.vae_steps), rng, options.device)
        parts = Parts(autoencoder, make_denoiser().to(options.device), make_scheduler())
    data = make_data(parts.autoencoder, MOVIES, rng, options.device)
    budget = Budget(options.unet_minutes, options.unet_steps)
    trained = train_denoiser(parts, data, budget, options.unet_rate, options.out)
    decoder = Budget(options.decoder_minutes, options.decoder_steps)
    refined = refine_decoder(parts.autoencoder, decoder, rng)
    Parts(refined, trained.denoiser, parts.scheduler).save(options.out)
    log.info("saved %s", options.out)


def read_options() -> argparse.Namespace:
    parser = make_parser(__doc__, resume="checkpoint to go on from; its autoencoder is kept")
    add_budget(parser, stage="vae", minutes=12)
    add_budget(parser, stage="unet", minutes=40)
    add_budget(parser, stage="decoder", minutes=10)
    parser.add_argument("--unet-rate", type=float, default=LEARNING_RATE, help="learning rate; less where resumed")
    return parser.parse_args()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    train(read_options())
