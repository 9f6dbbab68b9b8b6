"""Movies of the demo's world: the shape of a picture crosses it, farther with a larger motion bucket."""

from dataclasses import replace

import numpy as np

from templates.demo_models.train.motion import Motion, Place
from templates.demo_models.train.shapes import TRIANGLE_REACH, Pixels, Placement, Rng, Scene, place, training_scenes

FRAMES = 8
BUCKETS = 255  # Stable Video Diffusion's motion buckets are 1 to 255
MOST_WAY = 0.44  # of the shorter side, in the last bucket: 14 of 64 pixels in SVD's default bucket, 127
OFF_CENTER = 0.06  # nearer to the middle a shape counts as central
JITTER = 0.015  # of the start, beside the one of every picture
KNOWN = training_scenes()


def movie(scene: Scene, bucket: int, rng: Rng | None = None) -> Motion:
    """The scene's shape crossing the picture; with `rng`, it starts a little off the scene's ideal place."""
    start = place(scene, rng)
    if rng is not None:
        dx, dy = rng.uniform(-JITTER, JITTER, 2)
        start = replace(start, x=start.x + dx, y=start.y + dy)
    return Motion(scene, start, end_of(start, bucket))


def random_movie(rng: Rng) -> tuple[int, Motion]:
    """A random motion bucket, and the movie of a random training scene in it."""
    bucket = int(rng.integers(1, BUCKETS + 1))
    return bucket, movie(KNOWN[rng.integers(len(KNOWN))], bucket, rng)


def end_of(start: Placement, bucket: int) -> Placement:
    """Where a shape is in the last frame: the bucket's way ahead, or where it would touch the picture's edge."""
    x, y = heading(start)
    room = 0.5 - TRIANGLE_REACH * start.radius - (x * start.x + y * start.y)
    way = min(MOST_WAY * bucket / BUCKETS, max(0.0, room))
    return replace(start, x=start.x + way * x, y=start.y + way * y)


def heading(at: Placement) -> Place:
    """The axis away from the nearest edge; to the right from the middle."""
    if max(abs(at.x), abs(at.y)) < OFF_CENTER:
        return 1.0, 0.0
    if abs(at.x) >= abs(at.y):
        return (-1.0 if at.x > 0 else 1.0), 0.0
    return 0.0, (-1.0 if at.y > 0 else 1.0)


def film(motion: Motion, side: int = 64) -> Pixels:
    """All pictures of a movie, (8, side, side, 3)."""
    return np.stack([motion.draw(time, side, side) for time in np.linspace(0, 1, FRAMES)])
