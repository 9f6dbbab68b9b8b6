"""How well an image-to-video checkpoint moves the shapes of pictures held out of its training.

python -m templates.demo_models.measure_video --checkpoint /tmp/image-to-video
"""

import argparse
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from templates.demo_models.judge import FAINT, look
from templates.demo_models.measure import contact_sheet, held_out, median_s
from templates.demo_models.report import make_parser, report
from templates.demo_models.train.motion import Motion, Place
from templates.demo_models.train.movies import FRAMES, movie
from templates.demo_models.train.shapes import COLOURS, Array, Scene, coverage

CHECKPOINT = Path(__file__).parent / "image-to-video"
BUCKETS = (20, 60, 100, 140, 180, 220, 255)
DEFAULT_BUCKET = 127  # the pipeline's own
BARS = {"colour": 0.9, "background": 0.9, "correlation": 0.8}
SIDE = 64
BATCH = 8
OPTIONS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "4 steps": {"num_inference_steps": 4},
    "16 steps": {"num_inference_steps": 16},
    "guidance 1 to 2": {"max_guidance_scale": 2.0},
    "25 steps, guidance 1 to 3: the pipeline's own": {"num_inference_steps": 25, "max_guidance_scale": 3.0},
    "fps 24": {"fps": 24},
    "noise_aug_strength 0.1": {"noise_aug_strength": 0.1},
    "decode_chunk_size 2": {"decode_chunk_size": 2},
}
Clip = list[Image.Image]


@dataclass(frozen=True)
class Score:
    """Shares of clips that were right in all their frames, and how they moved; ways in pixels of 64."""

    clips: int
    colour: float
    background: float
    shape: float
    correlation: float  # rank correlation of motion bucket and mean way
    correlation_per_scene: float  # the mean of each scene's own
    way_px: dict[str, float]  # mean way by bucket
    wanted_way_px: dict[str, float]  # the same of the drawn movies
    end_error_px: float  # mean distance of the last frame's shape from its place in the drawn movie
    first_frame_db: float  # median PSNR against the given picture
    flicker: float  # mean deviation of the background over the frames, in levels of 255

    def reaches_bars(self) -> bool:
        return all(getattr(self, name) >= bar for name, bar in BARS.items())


@dataclass(frozen=True)
class Animator:
    """A loaded checkpoint and how it is sampled; clip k starts from the noise of seed k."""

    pipeline: Any  # a StableVideoDiffusionPipeline, which is not typed
    steps: int
    guidance: float

    def animate(self, pictures: Sequence[Image.Image], bucket: int, **more: Any) -> list[Clip]:
        """One clip of 8 frames per picture, all in one motion bucket; `more` goes to the pipeline."""
        clips: list[Clip] = []
        for start in range(0, len(pictures), BATCH):
            clips += self._animate_batch(pictures[start : start + BATCH], bucket, start, more)
        return clips

    def _animate_batch(
        self, pictures: Sequence[Image.Image], bucket: int, start: int, more: dict[str, Any]
    ) -> list[Clip]:
        import torch

        options: dict[str, Any] = {
            "height": SIDE,
            "width": SIDE,
            "num_frames": FRAMES,
            "num_inference_steps": self.steps,
            "max_guidance_scale": self.guidance,
            "decode_chunk_size": FRAMES,
            "generator": [torch.Generator().manual_seed(start + number) for number in range(len(pictures))],
        }
        clips: list[Clip] = self.pipeline(list(pictures), motion_bucket_id=bucket, **(options | more)).frames
        return clips


def load(checkpoint: Path, device: str, steps: int = 8, guidance: float = 1.0) -> Animator:
    import diffusers

    library: Any = diffusers
    pipeline = library.StableVideoDiffusionPipeline.from_pretrained(checkpoint).to(device)
    pipeline.set_progress_bar_config(disable=True)
    return Animator(pipeline, steps, guidance)


def wanted(scenes: Sequence[Scene], bucket: int) -> list[Motion]:
    """The movies of the scenes, each starting a little off its ideal place, the same in every bucket."""
    rng = np.random.default_rng(2)
    return [movie(scene, bucket, rng) for scene in scenes]


def first_pictures(scenes: Sequence[Scene]) -> list[Image.Image]:
    return [Image.fromarray(motion.draw(0)) for motion in wanted(scenes, DEFAULT_BUCKET)]


def drawn(motion: Motion) -> Clip:
    """What a clip should look like: the judge must get it right."""
    return [Image.fromarray(motion.draw(time)) for time in np.linspace(0, 1, FRAMES)]


def score(clips: dict[int, list[Clip]], scenes: Sequence[Scene]) -> Score:
    """Judges one clip per scene in each of two or more buckets."""
    buckets = list(clips)
    movies = [wanted(scenes, bucket) for bucket in buckets]
    ways = np.array([[_way(clip, scene) for clip, scene in zip(row, scenes, strict=True)] for row in clips.values()])
    wanted_ways = [float(np.mean([SIDE * motion.travelled() for motion in row])) for row in movies]
    return Score(
        clips=ways.size,
        correlation=rank_correlation(buckets, ways.mean(axis=1)),
        correlation_per_scene=float(np.mean([rank_correlation(buckets, of_scene) for of_scene in ways.T])),
        way_px=_by_bucket(buckets, ways.mean(axis=1)),
        wanted_way_px=_by_bucket(buckets, wanted_ways),
        **looks([clip for row in clips.values() for clip in row], [motion for row in movies for motion in row]),
    )


def looks(clips: Sequence[Clip], movies: Sequence[Motion]) -> dict[str, float]:
    """What a `Score` says of clips one by one: shares that were right, means and medians of errors."""
    pairs = list(zip(clips, movies, strict=True))
    colour, background, shape = np.mean([_right(clip, motion.scene) for clip, motion in pairs], axis=0)
    return {
        "colour": float(colour),
        "background": float(background),
        "shape": float(shape),
        "end_error_px": float(np.mean([_end_error(clip, motion) for clip, motion in pairs])),
        "first_frame_db": float(np.median([psnr(clip[0], drawn(motion)[0]) for clip, motion in pairs])),
        "flicker": float(np.mean([_flicker(clip, motion) for clip, motion in pairs])),
    }


def _by_bucket(buckets: Sequence[int], ways: Iterable[float]) -> dict[str, float]:
    return {str(bucket): round(float(way), 1) for bucket, way in zip(buckets, ways, strict=True)}


def _right(clip: Clip, scene: Scene) -> tuple[bool, bool, bool]:
    """Whether colour, background and shape are the scene's in every frame."""
    seen = [look(frame) for frame in clip]
    return (
        all(one.colour == scene.colour for one in seen),
        all(one.background == scene.background for one in seen),
        all(one.shape == scene.shape for one in seen),
    )


def centre(frame: Image.Image, scene: Scene) -> Place:
    """The centre of all that has the shape's colour rather than the background's, in pixels."""
    pixels = np.asarray(frame.convert("RGB"), np.float32)
    paint, ground = (np.array(COLOURS[name], np.float32) for name in (scene.colour, scene.background))
    share = np.clip((pixels - ground) @ (paint - ground) / ((paint - ground) @ (paint - ground)), 0, 1)
    share[share < FAINT] = 0
    height, width = share.shape
    total = share.sum() + 1e-6
    return float(share.sum(axis=0) @ np.arange(width) / total), float(share.sum(axis=1) @ np.arange(height) / total)


def _way(clip: Clip, scene: Scene) -> float:
    return math.dist(centre(clip[0], scene), centre(clip[-1], scene))


def _end_error(clip: Clip, motion: Motion) -> float:
    return math.dist(centre(clip[-1], motion.scene), centre(drawn(motion)[-1], motion.scene))


def _flicker(clip: Clip, motion: Motion) -> float:
    """How much the pixels that no frame's shape should touch change from frame to frame."""
    places = [motion.at(time) for time in np.linspace(0, 1, FRAMES)]
    touched = sum(coverage(motion.scene.shape, at) for at in places)
    frames = np.stack([np.asarray(frame, np.float32) for frame in clip])
    return float(np.abs(np.diff(frames[:, touched == 0], axis=0)).mean())


def rank_correlation(one: Sequence[float], other: Sequence[float] | Array) -> float:
    """Spearman's rank correlation of values without ties."""
    first, second = (np.argsort(np.argsort(values)) for values in (one, other))
    return float(np.corrcoef(first, second)[0, 1])


def psnr(one: Image.Image, other: Image.Image) -> float:
    """How alike two pictures are, in dB."""
    error = np.mean((np.asarray(one, np.float32) - np.asarray(other, np.float32)) ** 2)
    return float(10 * np.log10(255**2 / max(float(error), 1e-6)))


def measure_options(animator: Animator, scenes: Sequence[Scene]) -> dict[str, dict[str, float]]:
    """How clips in the default bucket look when they are sampled in other ways."""
    pictures, movies = first_pictures(scenes), wanted(scenes, DEFAULT_BUCKET)
    found = {
        name: looks(animator.animate(pictures, DEFAULT_BUCKET, **more), movies) for name, more in OPTIONS.items()
    }
    return {name: {aspect: round(value, 3) for aspect, value in row.items()} for name, row in found.items()}


def measure(options: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    """All figures, and whether drawn movies and held-out pictures' clips reach the bars."""
    animator = load(options.checkpoint, options.device, options.steps, options.guidance)
    scenes = held_out(options.scenes)
    pictures = first_pictures(scenes)
    figures: dict[str, Any] = {"steps": options.steps, "guidance_scale": options.guidance}
    figures["clip_s"] = round(median_s(lambda: animator.animate(pictures[:1], DEFAULT_BUCKET)), 3)
    ideal = score({bucket: [drawn(motion) for motion in wanted(scenes, bucket)] for bucket in BUCKETS}, scenes)
    clips = {bucket: animator.animate(pictures, bucket) for bucket in BUCKETS}
    result = score(clips, scenes)
    figures["drawn movies"], figures["held-out pictures"] = asdict(ideal), asdict(result)
    figures["in bucket 127"] = measure_options(animator, scenes[: options.scenes // 2])
    if options.sheets:
        for bucket, row in clips.items():
            sheet = contact_sheet([frame for clip in row[:12] for frame in clip], columns=FRAMES)
            sheet.save(options.sheets / f"bucket {bucket}.png")
    return figures, ideal.reaches_bars() and result.reaches_bars()


def main() -> int:
    """Prints the figures and writes them beside the weights; 1 where they stay under the bars."""
    parser = make_parser(__doc__, CHECKPOINT)
    parser.add_argument("--scenes", type=int, default=32)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--guidance", type=float, default=1.0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--sheets", type=Path, help="folder for contact sheets of the clips")
    options = parser.parse_args()
    figures, passed = measure(options)
    return report(figures, options.checkpoint, f"{BARS}", passed=passed)


if __name__ == "__main__":
    raise SystemExit(main())
