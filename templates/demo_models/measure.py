"""How often a text-to-image checkpoint draws what it was asked for, on prompts held out of its training."""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from templates.demo_models.judge import Seen, look, matches
from templates.demo_models.report import make_parser, report
from templates.demo_models.train import shapes
from templates.demo_models.train.phrasing import reworded
from templates.demo_models.train.shapes import Scene, caption

CHECKPOINT = Path(__file__).parent / "text-to-image"
BARS = {"background": 0.99, "colour": 0.98, "shape": 0.95}
ASPECTS = ("background", "colour", "shape", "size", "position")
SIDE = 64
BATCH = 24


@dataclass(frozen=True)
class Score:
    """Shares of pictures that were right, one by one and in everything at once."""

    pictures: int
    background: float
    colour: float
    shape: float
    size: float
    position: float
    everything: float

    def reaches_bars(self) -> bool:
        return all(getattr(self, aspect) >= bar for aspect, bar in BARS.items())


@dataclass(frozen=True)
class Sampler:
    """A loaded checkpoint and how it is sampled; picture k starts from the noise of seed k."""

    pipeline: Any  # a StableDiffusionPipeline, which is not typed
    steps: int
    guidance: float

    def draw(self, prompts: Sequence[str], **more: Any) -> list[Image.Image]:
        """One picture per prompt; `more` goes to the pipeline, its lists in step with the prompts."""
        pictures: list[Image.Image] = []
        for start in range(0, len(prompts), BATCH):
            part = slice(start, start + BATCH)
            pictures += self._draw_batch(prompts, part, {name: _cut(value, part) for name, value in more.items()})
        return pictures

    def _draw_batch(self, prompts: Sequence[str], part: slice, more: dict[str, Any]) -> list[Image.Image]:
        import torch

        seeds = range(*part.indices(len(prompts)))
        size = {} if "image" in more else {"width": SIDE, "height": SIDE}
        images: list[Image.Image] = self.pipeline(
            list(prompts[part]),
            num_inference_steps=self.steps,
            guidance_scale=self.guidance,
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
            **size,
            **more,
        ).images
        return images

    def from_images(self) -> "Sampler":
        """The same checkpoint, starting from pictures."""
        from diffusers import AutoPipelineForImage2Image

        pipeline = AutoPipelineForImage2Image.from_pipe(self.pipeline)
        pipeline.set_progress_bar_config(disable=True)
        return Sampler(pipeline, self.steps, self.guidance)


def _cut(value: Any, part: slice) -> Any:
    return value[part] if isinstance(value, list) else value


def load(checkpoint: Path, device: str, steps: int = 8, guidance: float = 2.0) -> Sampler:
    import diffusers

    library: Any = diffusers
    pipeline = library.StableDiffusionPipeline.from_pretrained(checkpoint).to(device)
    pipeline.set_progress_bar_config(disable=True)
    return Sampler(pipeline, steps, guidance)


def held_out(count: int) -> list[Scene]:
    """Held-out scenes in a fixed random order."""
    scenes = shapes.held_out_scenes()
    return [scenes[number] for number in np.random.default_rng(1).permutation(len(scenes))[:count]]


def score(pictures: Sequence[Image.Image], scenes: Sequence[Scene]) -> Score:
    right = [_right(look(picture), scene) for picture, scene in zip(pictures, scenes, strict=True)]
    shares = {aspect: float(np.mean([one[aspect] for one in right])) for aspect in ASPECTS}
    return Score(len(right), **shares, everything=float(np.mean([all(one.values()) for one in right])))


def _right(seen: Seen, scene: Scene) -> dict[str, bool]:
    return {aspect: getattr(seen, aspect) == getattr(scene, aspect) for aspect in ASPECTS}


def drawings(scenes: Sequence[Scene]) -> list[Image.Image]:
    """What the scenes should look like, each a little off its ideal place: the judge must get these right."""
    rng = np.random.default_rng(2)
    return [Image.fromarray(shapes.draw(scene, shapes.place(scene, rng))) for scene in scenes]


def measure_prompts(sampler: Sampler, scenes: Sequence[Scene]) -> Iterator[tuple[str, Score, list[Image.Image]]]:
    """The judge's own sanity, then plain captions, then the same scenes asked for loosely."""
    drawn = drawings(scenes)
    yield "drawings", score(drawn, scenes), drawn
    plain = sampler.draw([caption(scene) for scene in scenes])
    yield "held-out prompts", score(plain, scenes), plain
    rng = np.random.default_rng(3)
    loose = sampler.draw([reworded(scene, rng) for scene in scenes])
    yield "held-out prompts, loosely typed", score(loose, scenes), loose


def measure_image_to_image(sampler: Sampler, scenes: Sequence[Scene]) -> dict[str, float]:
    """How often low strength keeps the first picture's shape, size and place, and high obeys the prompt.

    Low strength is asked for another colour, then for an altogether other scene, which is harder.
    """
    sampler, half = sampler.from_images(), len(scenes) // 2
    before, others = list(scenes[:half]), list(scenes[half : 2 * half])
    first = drawings(before)
    recoloured = sampler.draw([caption(_recoloured(scene)) for scene in before], image=first, strength=0.25)
    contradicted = sampler.draw([caption(scene) for scene in others], image=first, strength=0.25)
    changed = sampler.draw([caption(scene) for scene in others], image=first, strength=0.9)
    obeyed = [matches(picture, caption(scene)) for picture, scene in zip(changed, others, strict=True)]
    return {
        "strength 0.25, another colour: keeps the layout": _kept(recoloured, before),
        "strength 0.25, another scene: keeps the layout": _kept(contradicted, before),
        "strength 0.9, another scene: obeys the prompt": float(np.mean(obeyed)),
    }


def _recoloured(scene: Scene) -> Scene:
    colour = next(name for name in shapes.COLOURS if name not in (scene.colour, scene.background))
    return replace(scene, colour=colour)


def _kept(pictures: Sequence[Image.Image], before: Sequence[Scene]) -> float:
    seen = [look(picture) for picture in pictures]
    return float(np.mean([_keeps_layout(one, scene) for one, scene in zip(seen, before, strict=True)]))


def _keeps_layout(seen: Seen, scene: Scene) -> bool:
    return (seen.shape, seen.size, seen.position) == (scene.shape, scene.size, scene.position)


def measure_negative_prompt(sampler: Sampler, count: int) -> dict[str, float]:
    """How often a circle of any colour comes out red, without and with "red" as the negative prompt."""
    grounds = [name for name in shapes.COLOURS if name != "red"]
    prompts = [f"a circle on a {grounds[number % len(grounds)]} background" for number in range(count)]
    free, bound = sampler.draw(prompts), sampler.draw(prompts, negative_prompt=["red"] * count)
    return {
        "red circles": float(np.mean([look(picture).colour == "red" for picture in free])),
        "red circles with negative_prompt": float(np.mean([look(picture).colour == "red" for picture in bound])),
    }


def median_s(work: Callable[[], object], repeats: int = 5) -> float:
    """The median time of some work, in seconds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def contact_sheet(pictures: Sequence[Image.Image], columns: int = 16) -> Image.Image:
    """Pictures in rows, twice their size."""
    cell = 2 * SIDE + 4
    sheet = Image.new("RGB", (columns * cell, -(-len(pictures) // columns) * cell), "gray")
    for number, picture in enumerate(pictures):
        sheet.paste(picture.resize((2 * SIDE, 2 * SIDE)), (number % columns * cell, number // columns * cell))
    return sheet


def measure(options: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    """All figures, and whether drawings and held-out prompts reach the bars."""
    sampler = load(options.checkpoint, options.device, options.steps, options.guidance)
    figures: dict[str, Any] = {"steps": options.steps, "guidance_scale": options.guidance}
    figures["load_s"] = round(median_s(lambda: load(options.checkpoint, options.device)), 3)
    figures["image_s"] = round(median_s(lambda: sampler.draw(["a red circle on a blue background"])), 3)
    scenes, passed = held_out(options.prompts), True
    for name, result, pictures in measure_prompts(sampler, scenes):
        figures[name], passed = asdict(result), passed and result.reaches_bars()
        if options.sheets:
            contact_sheet(pictures[:96]).save(options.sheets / f"{name}.png")
    figures["image-to-image"] = measure_image_to_image(sampler, scenes)
    figures["negative prompt"] = measure_negative_prompt(sampler, 96)
    return figures, passed


def main() -> int:
    """Prints the figures and writes them beside the weights; 1 where they stay under the bars."""
    parser = make_parser(__doc__, CHECKPOINT)
    parser.add_argument("--prompts", type=int, default=240)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--guidance", type=float, default=2.0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--sheets", type=Path, help="folder for contact sheets of the pictures")
    options = parser.parse_args()
    figures, passed = measure(options)
    return report(figures, options.checkpoint, f"{BARS}", passed=passed)
