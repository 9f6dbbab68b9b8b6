"""Moving shapes: a scene between two placements, drawn at any time, and textures for some of them."""

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass

import numpy as np

from templates.demo_models.train.shapes import (
    COLOURS,
    SIZES,
    TRIANGLE_REACH,
    Array,
    Pixels,
    Placement,
    Rng,
    Scene,
    coverage,
)

Place = tuple[float, float]
TURNING = 0.4  # share of the motions that turn, and of those that change size
MOST_TURN = 0.5  # radians
MOST_GROWTH = 1.3
WAVES = 4  # of a texture


@dataclass(frozen=True)
class Texture:
    """A pattern around a colour: waves (n, 3) of a vector's x and y and a phase, and their RGB amplitudes (n, 3)."""

    waves: Array
    amplitudes: Array

    @classmethod
    def random(cls, rng: Rng) -> "Texture":
        angle, per_side = rng.uniform(0, 2 * math.pi, (2, WAVES)), rng.uniform(1, 9, WAVES)
        vectors = 2 * math.pi * per_side * [np.cos(angle[0]), np.sin(angle[0])]
        amplitudes = rng.uniform(-40, 40, (WAVES, 3)).astype(np.float32)
        return cls(np.stack([*vectors, angle[1]], 1).astype(np.float32), amplitudes)

    def at(self, x: Array, y: Array) -> Array:
        """What it adds to a colour at places in units of the shorter side."""
        phases = x[..., None] * self.waves[:, 0] + y[..., None] * self.waves[:, 1] + self.waves[:, 2]
        return np.asarray(np.sin(phases) @ self.amplitudes)


@dataclass(frozen=True)
class Motion:
    """A shape that moves evenly from one placement to another; textures move with what they are on."""

    scene: Scene
    start: Placement
    end: Placement
    paint: Texture | None = None
    ground: Texture | None = None
    drift: Place = (0.0, 0.0)  # of the ground, in units of the shorter side

    def at(self, time: float) -> Placement:
        """Where the shape lies at a time from 0 to 1."""
        begin, end = astuple(self.start), astuple(self.end)
        return Placement(*((1 - time) * one + time * other for one, other in zip(begin, end, strict=True)))

    def travelled(self) -> float:
        """How far the shape goes, in units of the shorter side."""
        return math.hypot(self.end.x - self.start.x, self.end.y - self.start.y)

    def draw(self, time: float, width: int = 64, height: int = 64) -> Pixels:
        """The picture at a time, as antialiased RGB pixels (height, width, 3)."""
        at, side = self.at(time), min(width, height)
        paint, ground = (np.array(COLOURS[name], np.float32) for name in (self.scene.colour, self.scene.background))
        y, x = np.mgrid[0:height, 0:width].astype(np.float32)
        x, y = (x + 0.5 - width / 2) / side, (y + 0.5 - height / 2) / side
        if self.ground:
            ground = ground + self.ground.at(x - time * self.drift[0], y - time * self.drift[1])
        if self.paint:
            cos, sin = math.cos(at.angle), math.sin(at.angle)
            x, y = x - at.x, y - at.y
            paint = paint + self.paint.at(x * cos + y * sin, y * cos - x * sin)
        share = coverage(self.scene.shape, at, width, height)[..., None]
        return np.round(np.clip(ground + share * (paint - ground), 0, 255)).astype(np.uint8)


def random_motion(
    scene: Scene, rng: Rng, way: tuple[float, float], *, aspect: float = 1.0, textured: bool = False
) -> Motion:
    """The scene's shape going `way` (least, most) in units of the shorter side, inside the picture all the time.

    `aspect` is the picture's width by its height, 1 or more. A way that leaves the picture is shortened.
    """
    radius = SIZES[scene.size] * rng.uniform(0.85, 1.0)
    growth = rng.uniform(1 / MOST_GROWTH, 1.0) if rng.random() < TURNING else 1.0
    turn = rng.uniform(-MOST_TURN, MOST_TURN) if rng.random() < TURNING else 0.0
    room = aspect / 2 - TRIANGLE_REACH * radius, 0.5 - TRIANGLE_REACH * radius
    begin, end = _path(rng, room, rng.uniform(*way))
    angle = rng.uniform(-0.3, 0.3)
    return Motion(
        scene,
        Placement(begin[0], begin[1], radius, angle),
        Placement(end[0], end[1], radius * growth, angle + turn),
        paint=Texture.random(rng) if textured else None,
        ground=Texture.random(rng) if textured and rng.random() < 0.7 else None,
        drift=(rng.uniform(-0.08, 0.08), rng.uniform(-0.08, 0.08)) if textured else (0.0, 0.0),
    )


def _path(rng: Rng, room: Place, way: float) -> tuple[Place, Place]:
    """Two places within `room` of the middle that lie `way` apart, or nearly as far as the diagonal lets them."""
    way = min(way, 1.9 * math.hypot(*room))
    while True:
        x, y = rng.uniform(-room[0], room[0]), rng.uniform(-room[1], room[1])
        direction = rng.uniform(0, 2 * math.pi)
        end = x + way * math.cos(direction), y + way * math.sin(direction)
        if abs(end[0]) <= room[0] and abs(end[1]) <= room[1]:
            return (x, y), end


def triples(motions: Sequence[Motion], width: int, height: int) -> Pixels:
    """Each motion's first, middle and last picture, (motions, 3, height, width, 3)."""
    return np.stack([[motion.draw(time, width, height) for time in (0.0, 0.5, 1.0)] for motion in motions])
