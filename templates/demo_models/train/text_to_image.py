"""Train demo/text-to-image from scratch: a StableDiffusionPipeline of a few MB that draws what the prompt says.

python -m templates.demo_models.train.text_to_image --out /tmp/text-to-image --seed 0
"""

import argparse
import copy
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from templates.demo_models.train import shapes
from templates.demo_models.train.autoencoder import encode, train_autoencoder
from templates.demo_models.train.budget import Budget
from templates.demo_models.train.phrasing import WORDS, loose_caption
from templates.demo_models.train.tokenizer import train_tokenizer

PICTURES = 30_000
CAPTIONS_PER_PICTURE = 6
BATCH = 64
LEARNING_RATE = 1.5e-3
UNCONDITIONED = 0.1  # share of samples without a caption, for classifier-free guidance
AVERAGING = 0.998
TEXT_WIDTH = 96
SAVE_EVERY = 1000  # steps
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Data:
    """Pictures (n, 64, 64, 3) as bytes and their captions (n, k, tokens) as token ids."""

    pixels: Tensor
    tokens: Tensor
    no_caption: Tensor


class Denoiser(nn.Module):
    """The UNet and the text encoder, trained as one."""

    def __init__(self, unet: UNet2DConditionModel, text_encoder: CLIPTextModel) -> None:
        super().__init__()
        self.unet, self.text_encoder = unet, text_encoder

    def forward(self, latents: Tensor, times: Tensor, tokens: Tensor) -> Tensor:
        words = self.text_encoder(tokens).last_hidden_state
        prediction: Tensor = self.unet(latents, times, words, return_dict=False)[0]
        return prediction


@dataclass(frozen=True)
class Parts:
    """All that a checkpoint is made of."""

    autoencoder: AutoencoderTiny
    denoiser: Denoiser
    tokenizer: CLIPTokenizer
    scheduler: DDIMScheduler

    def save(self, folder: Path) -> None:
        """Writes the pipeline in half precision, readable by all."""
        pipeline = StableDiffusionPipeline(
            vae=copy.deepcopy(self.autoencoder),
            text_encoder=copy.deepcopy(self.denoiser.text_encoder),
            unet=copy.deepcopy(self.denoiser.unet),
            tokenizer=self.tokenizer,
            scheduler=self.scheduler,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        pipeline.to(torch.float16).save_pretrained(folder)
        for file in folder.rglob("*.*"):
            file.chmod(0o644)  # transformers writes weights as 0600


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
    unet = UNet2DConditionModel(
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


def make_scheduler() -> DDIMScheduler:
    """Velocity prediction down to pure noise: without it no flat background gets its colour right."""
    return DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
    )


def train_denoiser(parts: Parts, data: Data, budget: Budget, out: Path) -> Parts:
    """Trains `parts.denoiser`; returns the parts with its running average, which is also saved on the way."""
    denoiser, latents = parts.denoiser.train(), encode(parts.autoencoder, data.pixels)
    average = copy.deepcopy(denoiser).eval().requires_grad_(False)
    trained = Parts(parts.autoencoder, average, parts.tokenizer, parts.scheduler)
    optimizer = torch.optim.AdamW(denoiser.parameters(), LEARNING_RATE, weight_decay=0.01, betas=(0.9, 0.99))
    recent = 0.0
    for step, done in budget:
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * min(1, (step + 1) / 100) * min(1, max(0.02, 2 - 2 * done))
        loss = _loss(denoiser, parts.scheduler, latents, data)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(denoiser.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        _blend(average, denoiser, 1 - min(AVERAGING, (step + 1) / (step + 20)))
        recent += 0.02 * (loss.item() - recent)
        if step % 100 == 0:
            log.info("denoiser step %d (%.0f %%): loss %.4f", step, 100 * done, recent)
        if step % SAVE_EVERY == SAVE_EVERY - 1:
            trained.save(out)
    return trained


def _loss(denoiser: Denoiser, scheduler: DDIMScheduler, latents: Tensor, data: Data) -> Tensor:
    """Squared error of the predicted velocity on one random batch (Salimans & Ho 2022, arXiv:2202.00512)."""
    chosen = torch.randint(0, len(latents), (BATCH,))
    captions = torch.randint(0, CAPTIONS_PER_PICTURE, (BATCH,))
    times = torch.randint(0, scheduler.config.num_train_timesteps, (BATCH,)).to(latents.device)
    clean, tokens = latents[chosen], data.tokens[chosen, captions]
    tokens[torch.rand(BATCH) < UNCONDITIONED] = data.no_caption
    noise = torch.randn(clean.shape).to(clean.device)
    noisy = scheduler.add_noise(clean, noise, times)
    return functional.mse_loss(denoiser(noisy, times, tokens), scheduler.get_velocity(clean, noise, times))


@torch.no_grad()
def _blend(average: nn.Module, current: nn.Module, share: float) -> None:
    for kept, new in zip(average.parameters(), current.parameters(), strict=True):
        kept.lerp_(new, share)


def load_parts(folder: Path, device: str) -> Parts:
    """The parts of a saved checkpoint in full precision, to train on."""
    pipeline = StableDiffusionPipeline.from_pretrained(folder).to(device)
    denoiser = Denoiser(pipeline.unet, pipeline.text_encoder)
    return Parts(pipeline.vae.requires_grad_(False), denoiser, pipeline.tokenizer, pipeline.scheduler)


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
    train_denoiser(parts, data, Budget(options.unet_minutes, options.unet_steps), options.out).save(options.out)
    log.info("saved %s", options.out)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the checkpoint")
    parser.add_argument("--resume", type=Path, help="checkpoint to go on from; its autoencoder is kept")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2, help="changes the last bits of the result")
    parser.add_argument("--vae-minutes", type=float, default=10)
    parser.add_argument("--unet-minutes", type=float, default=28)
    parser.add_argument("--vae-steps", type=int, help="instead of minutes: the same result on every run")
    parser.add_argument("--unet-steps", type=int, help="instead of minutes: the same result on every run")
    return parser.parse_args()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    train(read_options())
