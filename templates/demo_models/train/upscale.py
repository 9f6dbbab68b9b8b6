"""Train demo/upscale: a Real-ESRGAN network of 0.9 MB that makes pictures four times as large.

python -m templates.demo_models.train.upscale --out /tmp/upscale --seed 0
"""

import argparse
import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from shared.models.esrgan import RRDBNet
from templates.demo_models.train import large_pictures
from templates.demo_models.train.autoencoder import to_unit
from templates.demo_models.train.averaged import Averaged
from templates.demo_models.train.budget import Budget
from templates.demo_models.train.large_pictures import SCALE, SIDE
from templates.demo_models.train.shapes import Pixels, Rng

PICTURES = 1_500
REDRAWN = 400  # of these, the small picture as the text-to-image model's autoencoder draws it too
PATCH = 24  # pixels of the small picture
BATCH = 8
LEARNING_RATE = 1.5e-3
TRIES = 3  # places of a picture, of which a patch is where most happens: elsewhere there is little to learn
NOISE = 0.1  # of the usual random weights, beside what the network begins with
POINT = torch.tensor([[0.0, 0, 0], [0, 1, 0], [0, 0, 0]])
TENT = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16  # after repeated pixels: nearly bilinear
SAVE_EVERY = 250  # steps
PAINTER = Path(__file__).parents[1] / "text-to-image" / "vae"
library: Any = diffusers  # it is not typed
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Data:
    """Large pictures (n, 256, 256, 3), and what the autoencoder makes of the first ones' small (m, 64, 64, 3)."""

    large: Pixels
    redrawn: Pixels


def make_network() -> RRDBNet:
    """An untrained network that already enlarges smoothly, about as bilinear resampling does."""
    network = RRDBNet(features=16, growth=16, blocks=2)
    with torch.no_grad():
        for layer in _shortcut(network):
            weight, bias = layer.parameters()
            weight.mul_(NOISE)
            bias.zero_()
            kernel = TENT if layer.out_channels == layer.in_channels else POINT
            for channel in range(min(weight.shape[:2])):
                weight[channel, channel] += kernel
        network.conv_body.weight.mul_(NOISE)
    return network


def _shortcut(network: RRDBNet) -> list[nn.Conv2d]:
    """The convolutions beside the body: the first, and those at the doubled sizes."""
    layers = [(name, layer) for name, layer in network.named_children() if isinstance(layer, nn.Conv2d)]
    return [layer for name, layer in layers if name != "conv_body"]


def make_data(seed: int) -> Data:
    """Draws the pictures; those that are redrawn are scenes, as the text-to-image model draws."""
    rng = np.random.default_rng(seed)
    scenes = [large_pictures.scene(rng) for _ in range(REDRAWN)]
    others = [large_pictures.draw(rng) for _ in range(PICTURES - REDRAWN)]
    small = np.stack([large_pictures.reduce(picture) for picture in scenes])
    log.info("drew %d pictures", PICTURES)
    return Data(np.stack([*scenes, *others]), _redrawn(small))


@torch.no_grad()
def _redrawn(small: Pixels) -> Pixels:
    painter = library.AutoencoderTiny.from_pretrained(PAINTER)
    parts = [to_unit(torch.from_numpy(small[start : start + 64])) for start in range(0, len(small), 64)]
    decoded = torch.cat([painter.decoder(painter.encoder(part)) for part in parts])
    return np.asarray(((decoded + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1))


def draw_batch(data: Data, rng: Rng) -> tuple[Tensor, Tensor]:
    """Small patches (8, 3, 24, 24) and their large ones (8, 3, 96, 96), between 0 and 1."""
    pairs = [_pair(data, rng) for _ in range(BATCH)]
    small, large = (np.stack(side) for side in zip(*pairs, strict=True))
    return _to_floats(small), _to_floats(large)


def _pair(data: Data, rng: Rng) -> tuple[Pixels, Pixels]:
    number = rng.integers(len(data.large))
    places = rng.integers(0, SIDE // SCALE - PATCH + 1, (TRIES, 2))
    patches = [_crop(data.large[number], top * SCALE, left * SCALE, PATCH * SCALE) for top, left in places]
    chosen = np.argmax([patch[::4, ::4].std() for patch in patches])
    large, (top, left) = patches[chosen], places[chosen]
    if number < len(data.redrawn) and rng.random() < 0.6:
        small = _crop(data.redrawn[number], top, left, PATCH)
    else:
        small = large_pictures.degrade(large, rng)
    turns, is_flipped = int(rng.integers(4)), rng.random() < 0.5
    small, large = np.rot90(small, turns), np.rot90(large, turns)
    return (small[:, ::-1], large[:, ::-1]) if is_flipped else (small, large)


def _crop(picture: Pixels, top: int, left: int, side: int) -> Pixels:
    return picture[top : top + side, left : left + side]


def _to_floats(pixels: Pixels) -> Tensor:
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255


def train_network(network: RRDBNet, data: Data, budget: Budget, rate: float, rng: Rng, out: Path) -> RRDBNet:
    """Trains the network; returns its running average, which is also saved on the way."""
    network = network.to("cpu", memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(network.parameters(), rate, weight_decay=0.0, betas=(0.9, 0.99))
    learning = Averaged(network, optimizer, longest=0.5)
    recent = 0.05
    for step, done in budget:
        small, large = draw_batch(data, rng)
        loss = functional.l1_loss(network(small.contiguous(memory_format=torch.channels_last)), large)
        learning.learn(loss, step, 0.02 + 0.49 * (1 + math.cos(math.pi * done)))
        recent += 0.02 * (loss.item() - recent)
        if step % 50 == 0:
            log.info("step %d (%.0f %%): loss %.5f", step, 100 * done, recent)
        if step % SAVE_EVERY == SAVE_EVERY - 1:
            save(learning.average, out)
    return learning.average


def save(network: RRDBNet, out: Path) -> None:
    """Writes `model.safetensors`, with the names that Real-ESRGAN's checkpoints have."""
    out.mkdir(parents=True, exist_ok=True)
    save_file({name: weight.contiguous() for name, weight in network.state_dict().items()}, out / "model.safetensors")
    (out / "model.safetensors").chmod(0o644)


def train(options: argparse.Namespace) -> None:
    """The whole recipe: draw, spoil, learn to restore, save."""
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    network = make_network()
    if options.resume:
        network.load_state_dict(load_file(options.resume / "model.safetensors"))
    data, rng = make_data(options.seed), np.random.default_rng([options.seed, 1])
    budget = Budget(options.minutes, options.steps)
    save(train_network(network, data, budget, options.rate, rng, options.out), options.out)
    log.info("saved %s", options.out)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the checkpoint")
    parser.add_argument("--resume", type=Path, help="checkpoint to go on from")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2, help="changes the last bits of the result")
    parser.add_argument("--minutes", type=float, default=24)
    parser.add_argument("--rate", type=float, default=LEARNING_RATE, help="learning rate; less where resumed")
    parser.add_argument("--steps", type=int, help="instead of minutes: the same result on every run")
    return parser.parse_args()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    train(read_options())
