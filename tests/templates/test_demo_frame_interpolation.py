"""The shipped network draws the middle of motions that it was never trained on, and its judge can be trusted."""

import json
from fractions import Fraction

import numpy as np
import pytest

from shared.device import Device
from shared.models.interpolator import Interpolator, load
from shared.schemas import ModelSource
from templates.demo_models.measure_interpolation import (
    BAR,
    CHECKPOINT,
    SHARE,
    Score,
    blend,
    centroid,
    draw,
    held_out,
    overlap,
    psnr,
    score,
    share,
    strip,
)
from templates.demo_models.train.motion import Motion
from templates.demo_models.train.shapes import Placement, Scene, held_out_scenes
from tests.shared.models.films import Blend

STILL = Motion(Scene("circle", "red", "blue"), Placement(-0.1, 0, 0.2), Placement(0.1, 0, 0.2))


@pytest.fixture(scope="module")
def model() -> Interpolator:
    return load(ModelSource("demo/frame-interpolation", "local", CHECKPOINT), Device("cpu"))


def test_draws_the_middle_of_held_out_motions(model: Interpolator) -> None:
    result = score(model, held_out(24))
    assert result.off_median <= BAR / 2
    assert result.within_bar >= 23 / 24
    assert result.overlap_median >= 0.9
    assert result.psnr >= result.psnr_of_blend + 6


def test_quarters_and_thirds_lie_at_their_times(model: Interpolator) -> None:
    for time in (Fraction(1, 4), Fraction(2, 3)):
        assert score(model, held_out(12), time).within_bar >= 11 / 12


def test_equal_frames_have_the_same_frame_between_them(model: Interpolator) -> None:
    still = Motion(STILL.scene, STILL.start, STILL.start)
    assert psnr(draw(model, still, 64, 64), still.draw(0)) > 30


@pytest.mark.parametrize(("width", "height"), [(50, 70), (160, 90)])
def test_other_sizes_are_drawn_too(model: Interpolator, width: int, height: int) -> None:
    drawn = draw(model, STILL, width, height)
    assert drawn.shape == (height, width, 3)
    assert psnr(drawn, STILL.draw(0.5, width, height)) > 20


def test_is_small_and_holds_no_pickles() -> None:
    files = {file.name: file.stat().st_size for file in CHECKPOINT.iterdir()}
    assert files.keys() == {"model.safetensors", "config.json", "figures.json", "README.md"}
    assert sum(files.values()) < 3_000_000


def test_the_figures_beside_the_weights_reach_the_bars() -> None:
    figures = json.loads((CHECKPOINT / "figures.json").read_text())
    measured = Score(**figures["held-out motions"])
    assert measured.motions >= 200
    assert measured.reaches_bars(), (BAR, SHARE)


def test_the_judge_finds_the_truth_right_and_a_blend_wrong() -> None:
    for motion, width, height in held_out(40):
        wanted, there = motion.draw(0.5, width, height), share(motion.draw(0.5, width, height), motion)
        assert overlap(there, there) == 1
        assert psnr(wanted, wanted) == 60
        at = np.array([width, height]) / 2 - 0.5 + 64 * np.array([motion.at(0.5).x, motion.at(0.5).y])
        assert np.hypot(*(centroid(there) - at)) < 0.5
    result = score(Interpolator(Blend(), Device("cpu")), held_out(40))
    assert not result.reaches_bars()
    assert result.overlap_median == result.overlap_of_blend < 0.6
    assert result.psnr == pytest.approx(result.psnr_of_blend, abs=0.1)


def test_the_judge_misses_a_frame_that_is_not_between() -> None:
    first, wanted = (share(STILL.draw(time), STILL) for time in (0.0, 0.5))
    assert np.hypot(*(centroid(first) - centroid(wanted))) == pytest.approx(6.4, abs=0.1)
    assert overlap(first, wanted) < 0.7


def test_a_blend_is_half_of_each() -> None:
    black, grey = np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 3), 201, np.uint8)
    assert set(blend(black, grey).ravel()) == {101}


def test_held_out_motions_are_of_held_out_scenes_and_always_the_same() -> None:
    motions, scenes = held_out(30), set(held_out_scenes())
    assert all(motion.scene in scenes for motion, _, _ in motions)
    assert motions == held_out(30)
    assert all(motion.travelled() + 1e-6 >= 4 / 64 and motion.travelled() <= 20 / 64 for motion, _, _ in motions)


def test_a_strip_shows_every_motion() -> None:
    picture = strip(Interpolator(Blend(), Device("cpu")), held_out(3))
    assert picture.size == (5 * 96 * 3, 3 * 66 * 3)
