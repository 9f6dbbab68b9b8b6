"""Moving shapes: where they are at which time, inside the picture, with textures that move along."""

import numpy as np
import pytest

from templates.demo_models.measure_interpolation import centroid, share
from templates.demo_models.train import shapes
from templates.demo_models.train.motion import Motion, Texture, random_motion, triples
from templates.demo_models.train.shapes import TRIANGLE_REACH, Placement, Scene

SCENE = Scene("square", "red", "blue")
MOTION = Motion(SCENE, Placement(-0.2, 0.1, 0.2, 0.0), Placement(0.1, -0.1, 0.25, 0.4))


def test_a_motion_is_even_from_one_placement_to_the_other() -> None:
    assert MOTION.at(0) == MOTION.start
    assert MOTION.at(1) == MOTION.end
    assert vars(MOTION.at(0.5)) == pytest.approx({"x": -0.05, "y": 0, "radius": 0.225, "angle": 0.2})
    assert MOTION.travelled() == pytest.approx(np.hypot(0.3, 0.2))


@pytest.mark.parametrize("time", [0.0, 0.25, 1.0])
@pytest.mark.parametrize(("width", "height"), [(64, 64), (96, 64)])
def test_the_shape_is_drawn_where_it_lies(time: float, width: int, height: int) -> None:
    at = MOTION.at(time)
    place = centroid(
        share(MOTION.draw(time, width, height), MOTION),
    )
    wanted = width / 2 - 0.5 + at.x * height, height / 2 - 0.5 + at.y * height
    assert np.hypot(*(place - wanted)) < 0.3


def test_without_textures_it_draws_what_the_scene_draws() -> None:
    assert np.array_equal(MOTION.draw(0.5), shapes.draw(SCENE, MOTION.at(0.5)))


@pytest.mark.parametrize("aspect", [1.0, 1.5])
def test_random_motions_stay_inside_the_picture_and_go_as_far_as_asked(aspect: float) -> None:
    rng, scenes = np.random.default_rng(0), shapes.all_scenes()
    for number in rng.integers(0, len(scenes), 200):
        motion = random_motion(scenes[number], rng, (0.1, 0.3), aspect=aspect)
        for time in (0.0, 1.0):
            at = motion.at(time)
            assert abs(at.x) + TRIANGLE_REACH * at.radius <= aspect / 2 + 1e-6
            assert abs(at.y) + TRIANGLE_REACH * at.radius <= 0.5 + 1e-6
        assert motion.travelled() + 1e-6 >= 0.1
        assert motion.travelled() <= 0.3 + 1e-6


def test_a_texture_moves_with_its_shape() -> None:
    """By 16 whole pixels, so that nothing is sampled anew."""
    paint = Texture.random(np.random.default_rng(1))
    motion = Motion(SCENE, Placement(-0.125, 0, 0.2), Placement(0.125, 0, 0.2), paint=paint)
    first, last = motion.draw(0.0), motion.draw(1.0)
    assert np.abs(np.roll(first, 16, 1).astype(int) - last).max() <= 1
    assert first[20:44, 12:36].std(axis=(0, 1)).max() > 5


def test_a_ground_drifts_by_what_is_said() -> None:
    ground = Texture.random(np.random.default_rng(1))
    motion = Motion(SCENE, Placement(0, 0, 0.1), Placement(0, 0, 0.1), ground=ground, drift=(0.0625, 0.0))
    first, last = motion.draw(0.0), motion.draw(1.0)
    assert np.abs(first[:16, :-4].astype(int) - last[:16, 4:]).max() <= 1
    assert not np.array_equal(first, last)


def test_triples_are_the_beginning_the_middle_and_the_end() -> None:
    ((first, middle, last),) = triples([MOTION], 96, 64)
    assert np.array_equal(first, MOTION.draw(0.0, 96, 64))
    assert np.array_equal(middle, MOTION.draw(0.5, 96, 64))
    assert np.array_equal(last, MOTION.draw(1.0, 96, 64))
