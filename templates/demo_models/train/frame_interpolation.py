"""Train demo/frame-interpolation: FILM with few channels, on shapes that move.

python -m templates.demo_models.train.frame_interpolation --out /tmp/frame-interpolation --seed 0
"""

import argparse
import json
import logging
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from safetensors.torch import save as serialized
from torch import Tensor
from torch.nn import functional

from shared.models.film import FILM, RGB, Sizes
from templates.demo_models.train import shapes
from templates.demo_models.train.averaged import Averaged, lowered
from templates.demo_models.train.budget import Budget
from templates.demo_models.train.motion import random_motion, triples
from templates.demo_models.train.options import add_budget, make_parser
from templates.demo_models.train.shapes import Rng

SIZES = Sizes(pyramid_levels=5, filters=8, flow_filters=(8, 16, 24, 32))
SMALL_UNTIL = 0.45  # share of the training with pictures of half the size, which take a quarter of the time
BATCH = 12  # at full size; twice as many at half the size
LEARNING_RATE = 2e-3
SIDE = 64
WIDE = 0.25  # share of batches that are half as wide again
TEXTURED = 0.3  # share of samples
WAY = (0.0, 0.42)  # of the shorter side
ALIGNMENT = 0.5  # weight of the warped frames' loss when training starts; it ends at a tenth
SAVE_EVERY = 250  # steps
KNOWN = shapes.training_scenes()
log = logging.getLogger(__name__)


def make_batch(rng: Rng, count: int = BATCH, side: int = SIDE) -> tuple[Tensor, Tensor, Tensor]:
    """First, middle and last pictures of random motions of training scenes, (count, 3, side, width) from 0 to 1."""
    width = side * 3 // 2 if rng.random() < WIDE else side
    motions = [
        random_motion(KNOWN[number], rng, WAY, aspect=width / side, textured=rng.random() < TEXTURED)
        for number in rng.integers(0, len(KNOWN), count)
    ]
    pictures = torch.from_numpy(triples(motions, width, side)).permute(0, 1, 4, 2, 3).float() / 255
    first, middle, last = pictures.unbind(1)
    return first, middle, last


def train_film(film: FILM, budget: Budget, rng: Rng, rate: float, out: Path, *, small_until: float) -> FILM:
    """Trains the network; returns its running average, which is also saved on the way."""
    learning = Averaged(film, torch.optim.Adam(film.parameters(), rate, betas=(0.9, 0.99)))
    recent = torch.zeros(2)
    for step, done in budget:
        batch = make_batch(rng, 2 * BATCH, SIDE // 2) if done < small_until else make_batch(rng)
        error, misalignment = _losses(film, *batch)
        loss = error + ALIGNMENT * max(0.1, 1 - 1.5 * done) * misalignment
        learning.learn(loss, step, lowered(done, 1.6))
        recent += max(0.02, 1 / (step + 1)) * (torch.stack([error, misalignment]).detach() - recent)
        if step % 50 == 0:
            log.info("step %d (%.0f %%): error %.4f, misalignment %.4f", step, 100 * done, *recent)
        if step % SAVE_EVERY == SAVE_EVERY - 1:
            save(learning.average, out)
    return learning.average


def _losses(film: FILM, first: Tensor, middle: Tensor, last: Tensor) -> tuple[Tensor, Tensor]:
    """How far the drawn frame is from the middle one, and how far the warped frames are, over all levels."""
    half = torch.full((len(first), 1), 0.5)
    one, other = film.encode(first), film.encode(last)
    flows = film.flows(one, other)
    aligned = film.aligned(one, other, flows, half)
    drawn = film.fuse(aligned)
    return _distance(drawn, middle) + _slopes(drawn, middle), _misalignment(film, aligned, middle)


def _misalignment(film: FILM, aligned: list[Tensor], middle: Tensor) -> Tensor:
    """L1 of both warped frames at each level: what teaches flow to a network that would rather blend."""
    total = torch.zeros(())
    for level, channels in enumerate(aligned):
        wanted = functional.avg_pool2d(middle, 2**level) if level else middle
        second = RGB + film.sizes.features(level)
        total = total + _distance(channels[:, :RGB], wanted) + _distance(channels[:, second : second + RGB], wanted)
    return total / len(aligned)


def _distance(found: Tensor, wanted: Tensor) -> Tensor:
    return functional.l1_loss(found, wanted)


def _slopes(found: Tensor, wanted: Tensor) -> Tensor:
    """L1 of the differences between neighbouring pixels: edges are to be sharp."""
    return _distance(found.diff(dim=2), wanted.diff(dim=2)) + _distance(found.diff(dim=3), wanted.diff(dim=3))


def save(film: FILM, out: Path) -> None:
    """Weights in half precision, and the sizes beside them."""
    out.mkdir(parents=True, exist_ok=True)
    weights = {name: weight.half().contiguous() for name, weight in film.state_dict().items()}
    (out / "model.safetensors").write_bytes(serialized(weights))  # readable by all, which save_file's is not
    config = {"architecture": "FILM", **asdict(film.sizes)}
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def load(folder: Path) -> FILM:
    """What `save` wrote, in single precision."""
    film = FILM(SIZES)
    film.load_state_dict(load_file(folder / "model.safetensors"))
    return film


def train(options: argparse.Namespace) -> None:
    """The whole recipe: draw, interpolate, save."""
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    film = load(options.resume) if options.resume else FILM(SIZES)
    budget = Budget(options.minutes, options.steps)
    rng = np.random.default_rng(options.seed)
    trained = train_film(film, budget, rng, options.rate, options.out, small_until=options.small_until)
    save(trained, options.out)
    log.info("saved %s", options.out)


def read_options() -> argparse.Namespace:
    parser = make_parser(__doc__, resume="checkpoint to go on from")
    add_budget(parser, minutes=28)
    parser.add_argument("--rate", type=float, default=LEARNING_RATE, help="learning rate; less where resumed")
    parser.add_argument("--small-until", type=float, default=SMALL_UNTIL, help="share of it at half the size")
    return parser.parse_args()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    train(read_options())
