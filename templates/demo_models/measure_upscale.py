"""How much closer an upscaler comes to the large picture than bicubic resampling, and how sharp its edges are.

python -m templates.demo_models.measure_upscale
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from shared.device import Device
from shared.models.upscaler import Enlarger, load
from shared.schemas import ModelSource
from templates.demo_models.report import make_parser, report
from templates.demo_models.train import large_pictures, shapes
from templates.demo_models.train.large_pictures import SIDE, Draw
from templates.demo_models.train.shapes import Array, Pixels, Rng, Scene

CHECKPOINT = Path(__file__).parent / "upscale"
BAR_DB = 1.5  # over bicubic, on held-out scenes
SEED = 1_000  # of pictures that training did not draw
Reduce = Callable[[Pixels, Rng], Pixels]


@dataclass(frozen=True)
class Score:
    """Means over pictures: PSNR in dB, and where there is one edge, its width in pixels, for us and for bicubic."""

    pictures: int
    psnr_db: float
    bicubic_psnr_db: float
    edge_px: float | None = None
    bicubic_edge_px: float | None = None

    def reaches_bar(self) -> bool:
        is_sharper = self.edge_px is None or self.bicubic_edge_px is None or self.edge_px < self.bicubic_edge_px
        return self.psnr_db >= self.bicubic_psnr_db + BAR_DB and is_sharper


def begin(checkpoint: Path, scale: float | None = None) -> Enlarger:
    """The checkpoint on the CPU."""
    model = load(ModelSource("demo/upscale", "", checkpoint), Device("cpu"))
    return model.begin(scale=scale, denoise_strength=None, tile=None)


def held_out(count: int, seed: int = SEED) -> list[tuple[Scene, Pixels]]:
    """Scenes that training never drew, as large pictures (256, 256, 3)."""
    rng, known = np.random.default_rng(seed), shapes.held_out_scenes()
    scenes = [known[n] for n in rng.permutation(len(known))[:count]]
    return [(scene, shapes.draw(scene, shapes.place(scene, rng), SIDE, SIDE)) for scene in scenes]


def enlarged(enlarger: Enlarger, small: Pixels) -> tuple[Pixels, Pixels]:
    """The picture as the network and as bicubic resampling enlarge it."""
    image = Image.fromarray(small)
    made = enlarger.picture(image, lambda done, total: None)
    return np.asarray(made), np.asarray(image.resize(made.size, Image.Resampling.BICUBIC))


def psnr_db(made: Pixels, true: Pixels) -> float:
    error = np.square(made.astype(np.float32) - true).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-6)))


def edge_px(made: Pixels, true: Pixels, scene: Scene) -> float:
    """How wide the edge of the scene's shape is: pixels between a tenth and nine tenths of it, by its length."""
    share, outline = _share(made, scene), _share(true, scene)
    length = np.hypot(*np.gradient(outline)).sum()
    return float(((share > 0.1) & (share < 0.9)).sum() / length)


def _share(pixels: Pixels, scene: Scene) -> Array:
    """How much of each pixel is of the shape's colour, by its place between the two colours."""
    paint, ground = (np.array(shapes.COLOURS[name], np.float32) for name in (scene.colour, scene.background))
    axis = paint - ground
    return np.asarray((pixels - ground) @ axis / (axis @ axis), np.float32)


def score_scenes(enlarger: Enlarger, scenes: Sequence[tuple[Scene, Pixels]], reduce: Reduce) -> Score:
    rng, rows = np.random.default_rng(SEED), []
    for scene, true in scenes:
        made, bicubic = enlarged(enlarger, reduce(true, rng))
        rows.append(
            [psnr_db(made, true), edge_px(made, true, scene), psnr_db(bicubic, true), edge_px(bicubic, true, scene)]
        )
    psnr, edge, bicubic_psnr, bicubic_edge = (round(float(mean), 2) for mean in np.mean(rows, 0))
    return Score(len(rows), psnr, bicubic_psnr, edge, bicubic_edge)


def score_drawings(enlarger: Enlarger, draw: Draw, count: int) -> Score:
    rng, rows = np.random.default_rng(SEED), []
    for _ in range(count):
        true = draw(rng)
        rows.append([psnr_db(pixels, true) for pixels in enlarged(enlarger, large_pictures.reduce(true))])
    psnr, bicubic_psnr = (round(float(mean), 2) for mean in np.mean(rows, 0))
    return Score(len(rows), psnr, bicubic_psnr)


def clean(large: Pixels, rng: Rng) -> Pixels:
    return large_pictures.reduce(large)


def half(large: Pixels, rng: Rng) -> Pixels:
    return np.asarray(Image.fromarray(large).resize((SIDE // 2, SIDE // 2), Image.Resampling.BICUBIC))


def measure(checkpoint: Path, count: int) -> dict[str, object]:
    """All figures."""
    network, scenes = begin(checkpoint), held_out(count)
    figures = {
        "held-out scenes": score_scenes(network, scenes, clean),
        "held-out scenes, damaged": score_scenes(network, scenes, large_pictures.degrade),
        "held-out scenes, twice as large": score_scenes(begin(checkpoint, 2), scenes, half),
    }
    for draw in (large_pictures.crowd, large_pictures.strokes, large_pictures.waves, large_pictures.clouds):
        figures[draw.__name__] = score_drawings(network, draw, max(1, count // 4))
    return {"seconds": _seconds(network), **{name: asdict(score) for name, score in figures.items()}}


def _seconds(enlarger: Enlarger) -> float:
    """For one picture of 64 x 64, the median of five."""
    small, times = large_pictures.reduce(held_out(1)[0][1]), []
    for _ in range(5):
        begun = time.perf_counter()
        enlarged(enlarger, small)
        times.append(time.perf_counter() - begun)
    return round(float(np.median(times)), 3)


def main() -> int:
    """Prints the figures and writes them beside the weights; 1 where they stay under the bar."""
    parser = make_parser(__doc__, CHECKPOINT)
    parser.add_argument("--pictures", type=int, default=96)
    options = parser.parse_args()
    figures = measure(options.checkpoint, options.pictures)
    passed = Score(**figures["held-out scenes"]).reaches_bar()  # type: ignore[arg-type]
    return report(figures, options.checkpoint, f"{BAR_DB} dB over bicubic", passed=passed)


if __name__ == "__main__":
    raise SystemExit(main())
