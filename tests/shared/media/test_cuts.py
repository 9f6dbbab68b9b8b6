"""Scene cuts: another scene is one; motion, flashes and fades are none."""

import itertools

import numpy as np
import pytest

from shared.media import cuts
from shared.media.cuts import CutFinder
from shared.media.frames import Pixels
from templates.demo_models.train import shapes
from templates.demo_models.train.motion import Motion, random_motion
from templates.demo_models.train.shapes import Scene

PAIRS = 100


def is_cut(before: Pixels, after: Pixels) -> bool:
    return CutFinder().is_cut(before, after)


def motions(*, textured: bool, way: tuple[float, float] = (0.05, 0.4)) -> list[Motion]:
    rng, scenes = np.random.default_rng(7), shapes.all_scenes()
    return [random_motion(scenes[n], rng, way, textured=textured) for n in rng.integers(0, len(scenes), PAIRS)]


@pytest.mark.parametrize("textured", [False, True])
@pytest.mark.parametrize("way", [(0.02, 0.1), (0.5, 0.7)], ids=["slow", "fast"])
def test_what_moves_is_no_cut(textured: bool, way: tuple[float, float]) -> None:
    pairs = [(motion.draw(0), motion.draw(1)) for motion in motions(textured=textured, way=way)]
    assert [is_cut(before, after) for before, after in pairs].count(True) == 0


@pytest.mark.parametrize("textured", [False, True])
def test_another_scene_is_a_cut(textured: bool) -> None:
    seen = motions(textured=textured)
    pairs = [
        (one.draw(1), other.draw(0))
        for one, other in itertools.pairwise(seen)
        if one.scene.background != other.scene.background
    ]
    found = [is_cut(before, after) for before, after in pairs]
    assert found.count(True) >= 0.95 * len(found)


def lit(pixels: Pixels, light: float, shade: int) -> Pixels:
    return (pixels * (1 - light) + shade * light).astype(np.uint8)


@pytest.mark.parametrize(
    ("light", "shade"), [(0.5, 255), (0.8, 255), (0.3, 0), (0.7, 0)], ids=["flash", "bright", "fade", "dark"]
)
def test_a_change_of_light_is_no_cut(light: float, shade: int) -> None:
    """The scene moves on meanwhile."""
    pairs = [(motion.draw(0), lit(motion.draw(0.1), light, shade)) for motion in motions(textured=True)]
    found = [is_cut(before, after) for before, after in pairs]
    found += [is_cut(after, before) for before, after in pairs]
    assert found.count(False) >= 0.95 * len(found)


@pytest.mark.parametrize("size", [(64, 64), (1, 1), (3, 200), (720, 1280)])
def test_frames_of_every_size_are_compared(size: tuple[int, int]) -> None:
    red, blue = (np.full((*size, 3), colour, np.uint8) for colour in ((220, 40, 40), (45, 75, 220)))
    assert is_cut(red, blue)
    assert not is_cut(red, red)


def test_a_large_picture_is_judged_like_the_same_one_small() -> None:
    one = Scene("circle", "red", "blue")
    for other, cut in ((Scene("square", "black", "yellow"), True), (Scene("circle", "red", "blue", "small"), False)):
        for width, height in ((64, 64), (500, 370)):
            drawn: list[Pixels] = [shapes.draw(scene, None, width, height) for scene in (one, other)]
            assert is_cut(*drawn) is cut


def test_a_little_more_light_on_an_even_picture_is_no_cut() -> None:
    """Though every pixel gets into the next class of the histogram."""
    assert not is_cut(np.full((64, 64, 3), 125, np.uint8), np.full((64, 64, 3), 131, np.uint8))


def test_grain_is_no_cut() -> None:
    rng = np.random.default_rng(3)
    before, after = rng.integers(0, 256, (2, 90, 160, 3), dtype=np.uint8)
    assert not is_cut(before, after)


def test_a_frame_is_reduced_once_though_it_is_in_two_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    reduced: list[int] = []

    def counted(pixels: Pixels) -> cuts.Array:
        reduced.append(id(pixels))
        return small(pixels)

    small = cuts._small
    monkeypatch.setattr(cuts, "_small", counted)
    finder = CutFinder()
    frames = [np.full((8, 8, 3), colour, np.uint8) for colour in ((220, 40, 40), (220, 40, 40), (45, 75, 220))]
    found = [finder.is_cut(before, after) for before, after in itertools.pairwise(frames)]
    assert found == [False, True]
    assert reduced == [id(frame) for frame in frames]
