"""Say what a demo picture shows, by its pixels alone.

`look(image)` answers what is there; `matches(image, prompt)` whether it is what the prompt says.
`python -m templates.demo_models.judge` measures a text-to-image checkpoint on prompts it never saw.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL.Image import Image

from templates.demo_models.train.shapes import (
    COLOURS,
    POSITIONS,
    SHAPES,
    SIZES,
    Array,
    Placement,
    coverage,
    parse,
)

LEAST_CONTRAST = 35  # of 441: the nearest two colours lie 83 apart
LEAST_AREA = 0.03  # of the shorter side squared: the smallest cross covers 0.07, the smallest triangle 0.05
FAINT = 0.25  # noise and stains below this share of the paint must not move the centre
LEAST_FIT = 0.7  # drawings reach 0.96 and, blurred by two pixels, 0.77
OFF_CENTER = 0.06  # of the shorter side
ANGLES = np.linspace(-0.15, 0.15, 7)


@dataclass(frozen=True)
class Seen:
    """What a picture shows: no shape where none fits, nothing but a background on an empty picture."""

    shape: str | None
    colour: str | None
    background: str
    size: str | None = None
    position: str | None = None
    fit: float = 0.0  # overlap with the ideal shape, 0 to 1


def look(image: Image) -> Seen:
    """The shape, colours, size and place in a picture of any size."""
    pixels = np.asarray(image.convert("RGB"), np.float32)
    ground = _border_colour(pixels)
    paint = _paint(pixels, ground)
    if paint is None:
        return Seen(None, None, _name(ground))
    share = _share(pixels, ground, paint)
    shape, at, fit = _best_fit(share)
    found = shape if fit >= LEAST_FIT else None
    return Seen(found, _name(paint), _name(ground), _size(at), _position(at), round(fit, 3))


def matches(image: Image, prompt: str) -> bool:
    """Whether the picture shows all that the prompt says; what it leaves open may be anything."""
    seen, wanted = look(image), parse(prompt)
    return all(value is None or getattr(seen, name) == value for name, value in vars(wanted).items())


def _border_colour(pixels: Array) -> Array:
    border = [pixels[:2], pixels[-2:], pixels[:, :2], pixels[:, -2:]]
    return np.asarray(np.median(np.concatenate([edge.reshape(-1, 3) for edge in border]), axis=0))


def _paint(pixels: Array, ground: Array) -> Array | None:
    """The median colour of what differs from the background, or None."""
    contrast = np.linalg.norm(pixels - ground, axis=-1)
    pixels_of_a_shape = int(LEAST_AREA * min(contrast.shape) ** 2)
    strongest = np.partition(contrast, -pixels_of_a_shape, axis=None)[-pixels_of_a_shape]
    if strongest < LEAST_CONTRAST:
        return None
    return np.asarray(np.median(pixels[contrast > strongest / 2], axis=0))


def _share(pixels: Array, ground: Array, paint: Array) -> Array:
    """How far each pixel has gone from the background's colour to the paint's, 0 to 1."""
    way = paint - ground
    share = np.clip((pixels - ground) @ way / (way @ way), 0, 1)
    return np.where(share < FAINT, 0, share)


def _name(colour: Array) -> str:
    return min(COLOURS, key=lambda name: float(np.linalg.norm(colour - np.array(COLOURS[name]))))


def _best_fit(share: Array) -> tuple[str, Placement, float]:
    """The shape that overlaps most when given the same centre and area."""
    height, width = share.shape
    fits = []
    for shape in SHAPES:
        for angle in ANGLES:
            at = _placement(share, shape, float(angle))
            ideal = coverage(shape, at, width, height)
            overlap = np.minimum(share, ideal).sum() / np.maximum(share, ideal).sum()
            fits.append((shape, at, float(overlap)))
    return max(fits, key=lambda fit: fit[2])


def _placement(share: Array, shape: str, angle: float) -> Placement:
    height, width = share.shape
    scale, total = min(width, height), share.sum()
    x = share.sum(axis=0) @ (np.arange(width) + 0.5) / total
    y = share.sum(axis=1) @ (np.arange(height) + 0.5) / total
    radius = np.sqrt(total / _unit_area(shape)) / scale
    return Placement(float(x - width / 2) / scale, float(y - height / 2) / scale, float(radius), angle)


@cache
def _unit_area(shape: str) -> float:
    """The area of a shape of radius 1."""
    return float(coverage(shape, Placement(0, 0, 0.25), 512, 512).sum()) / (0.25 * 512) ** 2


def _size(at: Placement) -> str:
    return min(SIZES, key=lambda size: abs(np.log(at.radius / SIZES[size])))


def _position(at: Placement) -> str:
    if max(abs(at.x), abs(at.y)) < OFF_CENTER:
        return "center"
    return max(POSITIONS, key=lambda name: at.x * POSITIONS[name][0] + at.y * POSITIONS[name][1])


if __name__ == "__main__":
    from templates.demo_models.measure import main

    raise SystemExit(main())
