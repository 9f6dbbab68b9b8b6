"""Pictures to train an upscaler on: drawn large, and what cameras, encoders and networks leave of them when small."""

import io
import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from templates.demo_models.train import shapes
from templates.demo_models.train.shapes import Array, Pixels, Placement, Rng

Draw = Callable[[Rng], Pixels]
SIDE = 256
SCALE = 4
FINER = 2  # strokes are drawn so many times larger, and averaged
FILTERS = (
    Image.Resampling.BICUBIC,
    Image.Resampling.BICUBIC,
    Image.Resampling.BOX,
    Image.Resampling.LANCZOS,
    Image.Resampling.BILINEAR,
)
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


def draw(rng: Rng) -> Pixels:
    """A random picture (256, 256, 3): mostly shapes, else strokes, letters, waves or clouds."""
    return KINDS[rng.choice(len(KINDS), p=SHARES)](rng)


def scene(rng: Rng) -> Pixels:
    """A training scene of the text-to-image model."""
    known = shapes.training_scenes()
    chosen = known[rng.integers(len(known))]
    return shapes.draw(chosen, shapes.place(chosen, rng), SIDE, SIDE)


def crowd(rng: Rng) -> Pixels:
    """A few shapes of any colour, size, place and angle, over each other."""
    picture = _clouds(rng, 0.15) if rng.random() < 0.4 else np.broadcast_to(_colour(rng), (SIDE, SIDE, 3))
    for _ in range(rng.integers(1, 7)):
        x, y = rng.uniform(-0.5, 0.5, 2)
        at = Placement(x, y, rng.uniform(0.04, 0.4), rng.uniform(0, 2 * math.pi))
        share = shapes.coverage(shapes.SHAPES[rng.integers(len(shapes.SHAPES))], at, SIDE, SIDE)[..., None]
        picture = picture + share * (_colour(rng) - picture)
    return _pixels(picture)


def strokes(rng: Rng) -> Pixels:
    """Lines, polygons, arcs and letters."""
    ground = Image.fromarray(_pixels(_clouds(rng, rng.uniform(0, 0.5))))
    canvas = ground.resize((FINER * SIDE, FINER * SIDE))
    pen = ImageDraw.Draw(canvas)
    for _ in range(rng.integers(4, 24)):
        _stroke(pen, rng)
    return np.asarray(canvas.reduce(FINER))


def _stroke(pen: ImageDraw.ImageDraw, rng: Rng) -> None:
    side = FINER * SIDE
    colour = tuple(int(shade) for shade in _colour(rng))
    points = [tuple(point) for point in rng.uniform(-0.1 * side, 1.1 * side, (rng.integers(2, 5), 2))]
    width = int(rng.integers(1, 14)) * FINER
    kind = rng.choice(["line", "polygon", "arc", "letters"])
    if kind == "line":
        pen.line(points, fill=colour, width=width, joint="curve")
    elif kind == "polygon" and len(points) > 2:
        pen.polygon(points, fill=colour)
    elif kind == "arc":
        x, y, size = *points[0], rng.uniform(0.05, 0.6) * side
        start, end = rng.uniform(0, 360, 2)
        pen.arc((x, y, x + size, y + size), start, end, fill=colour, width=width)
    else:
        word = "".join(rng.choice(list(LETTERS), rng.integers(1, 9)))
        pen.text(points[0], word, fill=colour, font=ImageFont.load_default(float(rng.uniform(24, 160))))


def waves(rng: Rng) -> Pixels:
    """Stripes, grids and checks between two colours, from fine to broad."""
    y, x = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32)
    share = np.ones((SIDE, SIDE), np.float32)
    for _ in range(rng.integers(1, 3)):
        angle, length = rng.uniform(0, math.pi), 12 * math.exp(rng.uniform(0, 2.5))
        wave = np.sin((x * math.cos(angle) + y * math.sin(angle)) * 2 * math.pi / length + rng.uniform(0, 6))
        share = share * np.clip(0.5 + wave * rng.choice([0.5, 2.0, 6.0]), 0, 1)
    one, other = _colour(rng), _colour(rng)
    return _pixels(one + share[..., None] * (other - one))


def clouds(rng: Rng) -> Pixels:
    """Soft noise of every size."""
    return _pixels(_clouds(rng, rng.uniform(0.2, 1)))


def _clouds(rng: Rng, strength: float) -> Array:
    total = np.broadcast_to(_colour(rng), (SIDE, SIDE, 3)).astype(np.float32)
    for cells in (2, 4, 8, 16, 32, 64):
        grid = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), np.uint8))
        noise = np.asarray(grid.resize((SIDE, SIDE), Image.Resampling.BICUBIC), np.float32) - 127.5
        total = total + strength * noise * 1.5 / math.sqrt(cells)
    return total


def _colour(rng: Rng) -> Array:
    named = list(shapes.COLOURS.values())
    chosen = named[rng.integers(len(named))] if rng.random() < 0.4 else rng.integers(0, 256, 3)
    return np.asarray(chosen, np.float32)


def _pixels(picture: Array) -> Pixels:
    return np.round(np.clip(picture, 0, 255)).astype(np.uint8)


KINDS: tuple[Draw, ...] = (scene, crowd, strokes, waves, clouds)
SHARES = (0.4, 0.33, 0.2, 0.04, 0.03)


def reduce(large: Pixels) -> Pixels:
    """The picture at a quarter of its size, without any damage."""
    height, width = (side // SCALE for side in large.shape[:2])
    return np.asarray(Image.fromarray(large).resize((width, height), Image.Resampling.BICUBIC))


def degrade(large: Pixels, rng: Rng) -> Pixels:
    """The picture at a quarter of its size; most often a little blurred, noisy or compressed."""
    image = Image.fromarray(large)
    if rng.random() < 0.2:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 2.0)))
    side = image.width // SCALE
    small = image.resize((side, side), FILTERS[rng.integers(len(FILTERS))])
    if rng.random() < 0.2:
        noise = rng.normal(0, rng.uniform(1, 6), (side, side, 3))
        small = Image.fromarray(_pixels(np.asarray(small, np.float32) + noise.astype(np.float32)))
    return np.asarray(_compressed(small, int(rng.integers(60, 96))) if rng.random() < 0.2 else small)


def _compressed(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file)
