"""The world of the demo models: which scenes exist, how they are drawn, how people ask for them."""

import itertools
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]
Rng = np.random.Generator

SHAPES = ("circle", "square", "triangle", "cross")
COLOURS = {
    "red": (220, 40, 40),
    "green": (40, 170, 60),
    "blue": (45, 75, 220),
    "yellow": (245, 220, 50),
    "purple": (145, 60, 180),
    "orange": (250, 140, 30),
    "white": (245, 245, 245),
    "black": (20, 20, 20),
}
SIZES = {"small": 0.175, "medium": 0.23, "large": 0.30}  # radius, in units of the shorter side
POSITIONS = {"center": (0, 0), "left": (-1, 0), "right": (1, 0), "top": (0, -1), "bottom": (0, 1)}
TRIANGLE_REACH = 1.15  # the outermost corner of any shape, in radii
SYNONYMS = {
    "tiny": "small",
    "little": "small",
    "big": "large",
    "huge": "large",
    "middle": "center",
    "centre": "center",
}


@dataclass(frozen=True)
class Scene:
    """One shape on a flat background."""

    shape: str
    colour: str
    background: str
    size: str = "medium"
    position: str = "center"


@dataclass(frozen=True)
class Request:
    """What a prompt says about a scene; None where it leaves the choice to the model."""

    shape: str | None = None
    colour: str | None = None
    background: str | None = None
    size: str | None = None
    position: str | None = None


@dataclass(frozen=True)
class Placement:
    """Where a shape lies: centre from the picture's, in units of the shorter side; angle in radians."""

    x: float
    y: float
    radius: float
    angle: float = 0.0


def all_scenes() -> list[Scene]:
    """Every scene of the grammar, in a fixed order."""
    kinds = itertools.product(SHAPES, COLOURS, COLOURS, SIZES, POSITIONS)
    return [Scene(*kind) for kind in kinds if kind[1] != kind[2]]


def is_held_out(scene: Scene) -> bool:
    """Whether training leaves it out: 24 of 224 triples (shape, colour, background), at every size and place.

    As the whole triple is unseen, a right picture is a composition, not a memory. No pair of colours loses
    more than one shape, and no coloured shape more than one background.
    """
    colours = list(COLOURS)
    step = (colours.index(scene.background) - colours.index(scene.colour)) % len(colours)
    turn = (SHAPES.index(scene.shape) + colours.index(scene.colour)) % len(SHAPES)
    return (turn, step) in {(0, 1), (1, 4), (2, 6)}


def training_scenes() -> list[Scene]:
    """The scenes that training draws."""
    return [scene for scene in all_scenes() if not is_held_out(scene)]


def held_out_scenes() -> list[Scene]:
    """The scenes that only the judge asks for."""
    return [scene for scene in all_scenes() if is_held_out(scene)]


def place(scene: Scene, rng: Rng | None = None) -> Placement:
    """Where the scene's shape goes; with `rng`, a little off its ideal place, size and angle."""
    radius = SIZES[scene.size]
    toward = 0.45 - TRIANGLE_REACH * radius  # the shape's edge ends just inside the picture
    x, y = (toward * axis for axis in POSITIONS[scene.position])
    if rng is None:
        return Placement(x, y, radius)
    dx, dy = rng.uniform(-0.02, 0.02, 2)
    return Placement(x + dx, y + dy, radius * rng.uniform(0.95, 1.05), rng.uniform(-0.12, 0.12))


def coverage(shape: str, at: Placement, width: int = 64, height: int = 64) -> Array:
    """How much of each pixel the shape covers, 0 to 1, as (height, width)."""
    scale = min(width, height)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    x = (x + 0.5 - width / 2) / scale - at.x
    y = (y + 0.5 - height / 2) / scale - at.y
    cos, sin = math.cos(at.angle), math.sin(at.angle)
    outside = _distance(shape, x * cos + y * sin, y * cos - x * sin, at.radius)
    return np.asarray(np.clip(0.5 - outside * scale, 0, 1), np.float32)


def _distance(shape: str, x: Array, y: Array, radius: float) -> Array:
    """Signed distance to the outline, negative inside. Every shape's centroid is the origin."""
    if shape == "circle":
        return np.asarray(np.hypot(x, y) - radius)
    if shape == "square":
        return _box(x, y, 0.86 * radius, 0.86 * radius)
    if shape == "cross":
        arm, length = 0.34 * radius, 1.05 * radius
        return np.minimum(_box(x, y, arm, length), _box(x, y, length, arm))
    slope = math.sin(math.pi / 3) * np.abs(x) - 0.5 * y
    return np.asarray(np.maximum(slope, y) - TRIANGLE_REACH * radius / 2)


def _box(x: Array, y: Array, half_width: float, half_height: float) -> Array:
    return np.maximum(np.abs(x) - half_width, np.abs(y) - half_height)


def draw(scene: Scene, at: Placement | None = None, width: int = 64, height: int = 64) -> Pixels:
    """The scene as antialiased RGB pixels (height, width, 3)."""
    paint, ground = (np.array(COLOURS[name], np.float32) for name in (scene.colour, scene.background))
    share = coverage(scene.shape, at or place(scene), width, height)[..., None]
    return np.round(ground + share * (paint - ground)).astype(np.uint8)


def caption(scene: Scene) -> str:
    """The plain way to ask for a scene, e.g. "a small red circle on the left of a blue background"."""
    thing = _article(" ".join(word for word in (_said_size(scene), scene.colour, scene.shape) if word))
    return f"{thing} {_where(scene)}{_article(scene.background)} background"


def _said_size(scene: Scene) -> str:
    return "" if scene.size == "medium" else scene.size


def _where(scene: Scene) -> str:
    if scene.position == "center":
        return "on "
    return f"{_at(scene.position)} of "


def _at(position: str) -> str:
    return f"{'on' if position in ('left', 'right') else 'at'} the {position}"


def _article(phrase: str) -> str:
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def parse(prompt: str) -> Request:
    """What a prompt asks for, read loosely: "red circle, blue background, left" is understood."""
    words = [SYNONYMS.get(word, word) for word in re.findall(r"[a-z]+", prompt.lower())]
    colour, background = _read_colours(words)
    return Request(
        shape=_first(words, SHAPES),
        colour=colour,
        background=background,
        size=_first(words, SIZES),
        position=_first(words, POSITIONS),
    )


def _first(words: list[str], known: Iterable[str]) -> str | None:
    return next((word for word in words if word in set(known)), None)


def _read_colours(words: list[str]) -> tuple[str | None, str | None]:
    """The shape's colour and the background's; of colours that name neither, the first is the shape's."""
    roles: dict[str, list[str]] = {"shape": [], "background": [], "either": []}
    for at, word in enumerate(words):
        if word in COLOURS:
            roles[_role(words[:at], words[at + 1 :])].append(word)
    either = iter(roles["either"])
    colour = next(iter(roles["shape"]), None) or next(either, None)
    background = next(iter(roles["background"]), None) or next(either, None)
    return colour, background


def _role(before: list[str], after: list[str]) -> str:
    """What a colour between these words belongs to."""
    following = next((word for word in after if word not in SIZES), "")
    preceding = next((word for word in reversed(before) if word not in ("a", "an", "the")), "")
    if following in (*SHAPES, "shape"):
        return "shape"
    return "background" if following == "background" or preceding == "on" else "either"
