"""How well an interpolation checkpoint draws the middle of a motion, on scenes held out of its training.

`python -m templates.demo_models.measure_interpolation` judges from pixels alone: where the shape lies, how much of it
is there, and how far the picture is from the true one, each beside a plain blend of both frames.
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from shared.device import Device
from shared.media.frames import Pixels
from shared.models.interpolator import HALF, Interpolator, load
from shared.schemas import ModelSource
from templates.demo_models.measure import median_s
from templates.demo_models.report import make_parser, report
from templates.demo_models.train import shapes
from templates.demo_models.train.motion import Motion, random_motion
from templates.demo_models.train.shapes import COLOURS, Array

CHECKPOINT = Path(__file__).parent / "frame-interpolation"
SIDE = 64
WAY = (4 / SIDE, 20 / SIDE)  # of the shorter side
SIZES = ((SIDE, SIDE), (3 * SIDE // 2, SIDE))
BAR = 0.10  # of the way: how far the centroid may lie from its place
SHARE = 0.95  # of the motions that stay within the bar
LEAST_OVERLAP = 0.8  # of drawn and true shape, in the middle of the motions; a blend has less than 0.6
THERE = 0.6  # of the way from the ground's colour to the paint's: the halves that a blend leaves are no part of it


@dataclass(frozen=True)
class Score:
    """How far centroids are off, as shares of the way; overlap of drawn and true shape, 0 to 1; PSNR in dB."""

    motions: int
    off_median: float
    off_p90: float
    off_p95: float
    off_max: float
    within_bar: float
    overlap_median: float
    overlap_p5: float
    overlap_of_blend: float
    psnr: float
    psnr_of_blend: float

    def reaches_bars(self) -> bool:
        return self.off_median <= BAR and self.within_bar >= SHARE and self.overlap_median >= LEAST_OVERLAP


def held_out(count: int, *, textured: bool = False) -> list[tuple[Motion, int, int]]:
    """Motions of held-out scenes, each with a width and a height, in a fixed random order."""
    rng, scenes = np.random.default_rng(1), shapes.held_out_scenes()
    chosen = [(scenes[n], *SIZES[k % len(SIZES)]) for k, n in enumerate(rng.integers(0, len(scenes), count))]
    return [(random_motion(s, rng, WAY, aspect=w / h, textured=textured), w, h) for s, w, h in chosen]


def share(pixels: Pixels, motion: Motion) -> Array:
    """How far each pixel has gone from the ground's colour to the paint's, 0 to 1, as (height, width)."""
    paint, ground = (np.array(COLOURS[name], np.float32) for name in (motion.scene.colour, motion.scene.background))
    way = paint - ground
    return np.asarray(np.clip((pixels - ground) @ way / (way @ way), 0, 1))


def centroid(there: Array) -> Array:
    """Where a shape lies, (x, y) in pixels, by what is more than half there; the picture's corner if nothing is."""
    weight = np.where(there > THERE, there, 0)
    y, x = np.mgrid[0 : there.shape[0], 0 : there.shape[1]]
    total = max(float(weight.sum()), 1e-6)
    return np.array([(weight * x).sum() / total, (weight * y).sum() / total], np.float32)


def overlap(found: Array, wanted: Array) -> float:
    """What two shapes have in common, as a share of what they cover together."""
    one, other = found > THERE, wanted > THERE
    return float((one & other).sum() / max(1, (one | other).sum()))


def psnr(found: Pixels, wanted: Pixels) -> float:
    """In dB; 60 for pictures that are equal."""
    error = np.mean((found.astype(np.float32) - wanted) ** 2)
    return float(min(60.0, 10 * np.log10(255**2 / max(error, 1e-9))))


def blend(first: Pixels, last: Pixels) -> Pixels:
    """What a network must beat: both frames half each."""
    return ((first.astype(np.uint16) + last + 1) // 2).astype(np.uint8)


def draw(model: Interpolator, motion: Motion, width: int, height: int, time: Fraction = HALF) -> Pixels:
    """The frame between the motion's ends, by the network."""
    first, last = motion.draw(0.0, width, height), motion.draw(1.0, width, height)
    (drawn,) = model.clip(lambda: None).between(first, last, [time])
    return drawn


def score(model: Interpolator, motions: Sequence[tuple[Motion, int, int]], time: Fraction = HALF) -> Score:
    rows = np.array([_judged(model, *motion, time) for motion in motions])
    off, common, common_of_blend, alike, alike_of_blend = rows.T
    median, p90, p95, worst = (round(float(np.percentile(off, rank)), 4) for rank in (50, 90, 95, 100))
    return Score(
        motions=len(off),
        off_median=median,
        off_p90=p90,
        off_p95=p95,
        off_max=worst,
        within_bar=round(float(np.mean(off <= BAR)), 4),
        overlap_median=round(float(np.median(common)), 3),
        overlap_p5=round(float(np.percentile(common, 5)), 3),
        overlap_of_blend=round(float(np.median(common_of_blend)), 3),
        psnr=round(float(np.mean(alike)), 2),
        psnr_of_blend=round(float(np.mean(alike_of_blend)), 2),
    )


def _judged(model: Interpolator, motion: Motion, width: int, height: int, time: Fraction) -> tuple[float, ...]:
    """How far off, then overlap and PSNR of the network and of the blend."""
    wanted, drawn = motion.draw(float(time), width, height), draw(model, motion, width, height, time)
    blended = blend(motion.draw(0.0, width, height), motion.draw(1.0, width, height))
    there = [share(picture, motion) for picture in (wanted, drawn, blended)]
    off = float(np.hypot(*(centroid(there[1]) - centroid(there[0])))) / (motion.travelled() * min(width, height))
    common = [overlap(found, there[0]) for found in there[1:]]
    return off, *common, psnr(drawn, wanted), psnr(blended, wanted)


def strip(model: Interpolator, motions: Sequence[tuple[Motion, int, int]]) -> Image.Image:
    """One motion a row, three times as large: first frame, blend, drawn middle, true middle, last frame."""
    rows = []
    for motion, width, height in motions:
        first, middle, last = (motion.draw(time, width, height) for time in (0.0, 0.5, 1.0))
        row = np.hstack([first, blend(first, last), draw(model, motion, width, height), middle, last])
        rows.append(np.pad(row, ((0, 2), (0, 5 * SIZES[-1][0] - row.shape[1]), (0, 0))))
    sheet = Image.fromarray(np.vstack(rows))
    return sheet.resize((sheet.width * 3, sheet.height * 3), Image.Resampling.NEAREST)


def measure(options: argparse.Namespace) -> tuple[dict[str, Any], Score]:
    """All figures, and the score that must reach the bars."""
    source, device = ModelSource("demo/frame-interpolation", "local", options.checkpoint), Device(options.device)
    model, motions = load(source, device), held_out(options.motions)
    textured = score(model, held_out(options.motions, textured=True))  # colours do not tell where its shapes are
    result = score(model, motions)
    figures: dict[str, Any] = {
        "load_s": round(median_s(lambda: load(source, device)), 3),
        "frame_s": round(median_s(lambda: draw(model, *motions[0])), 3),
        "held-out motions": asdict(result),
        "held-out motions, at a quarter": asdict(score(model, motions, Fraction(1, 4))),
        "held-out motions, at a third": asdict(score(model, motions, Fraction(1, 3))),
        "held-out motions, textured": {"psnr": textured.psnr, "psnr_of_blend": textured.psnr_of_blend},
    }
    if options.strip:
        strip(model, motions[:12]).save(options.strip)
    return figures, result


def main() -> int:
    """Prints the figures and writes them beside the weights; 1 where they stay under the bars."""
    parser = make_parser(__doc__, CHECKPOINT)
    parser.add_argument("--motions", type=int, default=240)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--strip", type=Path, help="file for a picture of some motions")
    options = parser.parse_args()
    figures, result = measure(options)
    bars = f"{BAR} of the way in {SHARE}"
    return report(figures, options.checkpoint, bars, passed=result.reaches_bars())


if __name__ == "__main__":
    raise SystemExit(main())
