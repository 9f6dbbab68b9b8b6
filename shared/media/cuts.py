"""Tells whether a video goes over to another scene between two neighbouring frames, by their colours."""

import numpy as np
import numpy.typing as npt

from shared.media.frames import Pixels

Array = npt.NDArray[np.float32]

SIDE = 32  # of the small pictures that are compared
SHADES = 6  # of each colour, for the histogram
# Measured on scenes of one shape, plain and textured, 200 to 500 pairs of each kind. What moves, however far, keeps
# its colours: at most 0.16 of the picture and 16 levels change. Another scene changes 0.5 and 27, a textured one 0.27
# and 14 (98 %). A change of light leaves at most 0.5 of the contrast unexplained (97 %), another scene more (98 %).
LEAST_EXCHANGED = 0.25  # of the picture, in other colours than before
LEAST_SHIFT = 12.0  # levels of 255, from the colours of one frame to the nearest of the other
MOST_UNEXPLAINED = 0.5
LEAST_GAIN = 0.05  # of contrast, from frame to frame in a flash
EPSILON = 1e-6


class CutFinder:
    """Finds the cuts of one video; a frame is reduced once, though it is in two pairs."""

    def __init__(self) -> None:
        self._last: tuple[Pixels, Array] | None = None

    def is_cut(self, before: Pixels, after: Pixels) -> bool:
        """Whether two neighbouring frames of one size, RGB (height, width, 3), show two scenes.

        Motion is no cut, and neither is a flash or a fade: there the picture stays the same but for its contrast and
        the light that is added.
        """
        one, other = self._small(before), self._small(after)
        if _exchanged(one, other) < LEAST_EXCHANGED or _shift(one, other) < LEAST_SHIFT:
            return False
        return not _is_change_of_light(one, other)

    def _small(self, pixels: Pixels) -> Array:
        if self._last is None or self._last[0] is not pixels:
            self._last = pixels, _small(pixels)
        return self._last[1]


def _small(pixels: Pixels) -> Array:
    """The means of a grid of at most 32 x 32 areas."""
    sums = pixels.astype(np.float32)
    counts = np.ones(pixels.shape[:2], np.float32)
    for axis, length in enumerate(pixels.shape[:2]):
        starts = np.linspace(0, length, min(SIDE, length), endpoint=False).astype(int)
        sums, counts = np.add.reduceat(sums, starts, axis), np.add.reduceat(counts, starts, axis)
    return np.asarray(sums / counts[..., None])


def _exchanged(one: Array, other: Array) -> float:
    """The share of the picture whose colour the other one has not, 0 to 1."""
    return float(np.abs(_histogram(one) - _histogram(other)).sum() / 2)


def _histogram(picture: Array) -> Array:
    red, green, blue = np.moveaxis((picture * (SHADES / 256)).astype(int), -1, 0)
    counts = np.bincount(((red * SHADES + green) * SHADES + blue).ravel(), minlength=SHADES**3)
    return np.asarray(counts / red.size, np.float32)


def _shift(one: Array, other: Array) -> float:
    """How far the colours of one lie from those of the other, place aside: the mean distance of sorted values."""
    ordered = [np.sort(picture.reshape(-1, 3), axis=0) for picture in (one, other)]
    return float(np.abs(ordered[0] - ordered[1]).mean())


def _is_change_of_light(one: Array, other: Array) -> bool:
    """Whether one is the other with another contrast, the same for all colours, and an even light on it."""
    one, other = (picture - picture.mean((0, 1)) for picture in (one, other))
    gain = float((one * other).sum()) / (float((one * one).sum()) + EPSILON)
    unexplained = float(((other - gain * one) ** 2).sum()) / (float((other * other).sum()) + EPSILON)
    return gain > LEAST_GAIN and unexplained < MOST_UNEXPLAINED
