"""The shipped checkpoint moves the shape of pictures that it was never trained on, and keeps how it looks."""

import json
import shutil
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
from PIL import Image

from templates.demo_models.judge import look
from templates.demo_models.measure import held_out
from templates.demo_models.measure_video import (
    BARS,
    CHECKPOINT,
    DEFAULT_BUCKET,
    Animator,
    Clip,
    Score,
    centre,
    drawn,
    first_pictures,
    load,
    looks,
    psnr,
    rank_correlation,
    score,
    wanted,
)
from templates.demo_models.train.movies import FRAMES, movie
from templates.demo_models.train.shapes import Scene, draw

library: Any = diffusers  # it is not typed
SCENES = held_out(4)


@pytest.fixture(scope="module")
def animator() -> Animator:
    return load(CHECKPOINT, "cpu")


@pytest.fixture(scope="module")
def clips(animator: Animator) -> dict[int, list[Clip]]:
    """What becomes of the first pictures of all scenes, by bucket."""
    return {bucket: animator.animate(first_pictures(SCENES), bucket) for bucket in (20, DEFAULT_BUCKET, 255)}


def test_moves_the_shapes_of_held_out_pictures_farther_in_larger_buckets(clips: dict[int, list[Clip]]) -> None:
    result = score(clips, SCENES)
    assert min(result.colour, result.background) >= 0.8  # the bars are for more clips, in figures.json
    slow, default, fast = result.way_px.values()
    assert slow < 5 < 10 < default < fast


def test_begins_with_the_given_picture(clips: dict[int, list[Clip]]) -> None:
    pairs = list(zip(clips[DEFAULT_BUCKET], first_pictures(SCENES), strict=True))
    assert {len(clip) for clip, _ in pairs} == {FRAMES}
    assert min(psnr(clip[0], picture) for clip, picture in pairs) > 20


@pytest.mark.parametrize(
    ("position", "axis", "sign"),
    [("left", 0, 1), ("right", 0, -1), ("top", 1, 1), ("bottom", 1, -1), ("center", 0, 1)],
)
def test_shapes_leave_the_nearest_edge(animator: Animator, position: str, axis: int, sign: int) -> None:
    scene = Scene("circle", "red", "green", "small", position)
    clip = animator.animate([Image.fromarray(draw(scene))], DEFAULT_BUCKET)[0]
    moved = np.subtract(centre(clip[-1], scene), centre(clip[0], scene))
    assert 9 < sign * moved[axis] < 19
    assert abs(moved[1 - axis]) < 3


def test_guidance_fps_and_small_chunks_change_no_colours(animator: Animator) -> None:
    more = {"max_guidance_scale": 1.5, "fps": 24, "decode_chunk_size": 2, "noise_aug_strength": 0.1}
    clips = animator.animate(first_pictures(SCENES[:2]), DEFAULT_BUCKET, **more)
    seen = [(look(frame).colour, look(frame).background) for clip in clips for frame in clip]
    expected = [(scene.colour, scene.background) for scene in SCENES[:2] for _ in range(FRAMES)]
    assert np.mean([one == other for one, other in zip(seen, expected, strict=True)]) >= 0.9


def test_the_same_seed_gives_the_same_clip(animator: Animator) -> None:
    picture = first_pictures(SCENES[:1])
    one, two = (b"".join(frame.tobytes() for frame in animator.animate(picture, 60)[0]) for _ in range(2))
    assert one == two


def test_is_a_small_video_pipeline_without_pickles(tmp_path: Path) -> None:
    copy = Path(shutil.copytree(CHECKPOINT, tmp_path / "copy"))
    files = [file for file in copy.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 8_000_000
    assert {file.suffix for file in files} == {".json", ".safetensors", ".md"}
    assert type(library.DiffusionPipeline.from_pretrained(copy)) is library.StableVideoDiffusionPipeline


def test_the_figures_beside_the_weights_reach_the_bars() -> None:
    figures = json.loads((CHECKPOINT / "figures.json").read_text())
    measured = Score(**figures["held-out pictures"])
    assert measured.clips >= 200
    assert measured.reaches_bars(), BARS


def test_the_judge_gets_drawn_movies_right_and_still_ones_wrong() -> None:
    movies = {bucket: [drawn(motion) for motion in wanted(SCENES, bucket)] for bucket in (20, 127, 255)}
    ideal = score(movies, SCENES)
    assert (ideal.colour, ideal.background, ideal.shape) == (1, 1, 1)
    assert ideal.way_px == ideal.wanted_way_px
    still = {bucket: [[clip[0]] * FRAMES for clip in row] for bucket, row in movies.items()}
    assert score(still, SCENES).end_error_px > 5


def test_the_judge_sees_a_wrong_colour_in_one_frame() -> None:
    motion = movie(SCENES[0], DEFAULT_BUCKET)
    clip = drawn(motion)
    clip[5] = Image.new("RGB", clip[5].size, "white")
    result = looks([clip], [motion])
    assert result["colour"] == result["background"] == result["shape"] == 0


def test_ranks_not_values_are_correlated() -> None:
    assert rank_correlation([1, 2, 3], [1.0, 50.0, 51.0]) == pytest.approx(1)
    assert rank_correlation([1, 2, 3], [9.0, 5.0, 1.0]) == pytest.approx(-1)
