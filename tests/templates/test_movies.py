"""Movies of the demo's world: how far and where to shapes go."""

import numpy as np
import pytest

from templates.demo_models.train.movies import BUCKETS, FRAMES, film, heading, movie, random_movie
from templates.demo_models.train.shapes import TRIANGLE_REACH, Placement, Scene, is_held_out


def test_the_way_grows_with_the_bucket_while_there_is_room() -> None:
    scene = Scene("square", "red", "blue", "small", "left")
    ways = [movie(scene, bucket).travelled() for bucket in (20, 60, 127, 255)]
    assert ways == sorted(ways)
    assert 64 * ways[2] == pytest.approx(14, abs=0.1)


def test_no_shape_leaves_the_picture() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        _, motion = random_movie(rng)
        assert max(abs(motion.end.x), abs(motion.end.y)) + TRIANGLE_REACH * motion.end.radius < 0.51
        assert not is_held_out(motion.scene)


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [(-0.2, 0.1, (1, 0)), (0.2, 0.1, (-1, 0)), (0.1, -0.2, (0, 1)), (0.1, 0.2, (0, -1)), (0.02, 0.03, (1, 0))],
)
def test_shapes_head_away_from_the_nearest_edge(x: float, y: float, expected: tuple[float, float]) -> None:
    assert heading(Placement(x, y, 0.2)) == expected


def test_a_film_begins_where_the_picture_shows_the_shape() -> None:
    motion = movie(Scene("circle", "red", "blue"), BUCKETS)
    frames = film(motion)
    assert frames.shape == (FRAMES, 64, 64, 3)
    assert np.array_equal(frames[0], motion.draw(0))
    assert np.array_equal(frames[-1], motion.draw(1))
