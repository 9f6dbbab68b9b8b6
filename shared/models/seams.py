"""Tiles that overlap, blended where they do, for networks that look further than a tile may reach."""

from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Span:
    """A tile's part of one axis: what it draws, from `core` to `end`, and how much it sees on each side of that."""

    core: int
    end: int
    before: int
    after: int

    @property
    def seen(self) -> slice:
        """All that the tile sees."""
        return slice(self.core - self.before, self.end + self.after)

    def weights(self) -> "Tensor":
        """How much the tile counts at each place that it sees: it fades over the middle of what two tiles share."""
        import torch

        weights = torch.ones(self.seen.stop - self.seen.start)
        if self.before:
            weights[: 2 * self.before] = _rising(self.before)
        if self.after:
            weights[-2 * self.after :] *= _rising(self.after).flip(0)
        return weights


def _rising(context: int) -> "Tensor":
    """From 0 to 1 over twice the context, in its middle half; the same read backwards makes the sum 1."""
    import torch

    return ((torch.arange(2 * context) + 0.5 - context) / context + 0.5).clamp(0, 1)


@dataclass(frozen=True)
class Tile:
    """A rectangle of a picture (n, c, height, width)."""

    rows: Span
    columns: Span

    def cut(self, picture: "Tensor") -> "Tensor":
        """What the tile sees of the picture."""
        return picture[..., self.rows.seen, self.columns.seen]

    def blend(self, picture: "Tensor", drawn: "Tensor") -> None:
        """Add the tile's share of what was drawn to a picture that was black before the first tile."""
        weights = self.rows.weights()[:, None] * self.columns.weights()
        self.cut(picture).add_(drawn * weights.to(drawn.device))


def tiles(height: int, width: int, *, most_pixels: int, multiple: int, context: int) -> list[Tile]:
    """Tiles that cover a picture, of at most so many pixels with their context, or as small as can be.

    Height and width are multiples of `multiple`, and so are the tiles'; the context is made one. No tile draws less
    than its context on either axis, so that no place is seen by more than two tiles of a row.
    """
    context = ceil(context / multiple) * multiple
    lengths, parts = (height, width), [1, 1]
    while True:
        rows, columns = (_spans(length, n, multiple, context) for length, n in zip(lengths, parts, strict=True))
        sides = [max(span.seen.stop - span.seen.start for span in spans) for spans in (rows, columns)]
        splittable = [n for n in (0, 1) if lengths[n] // multiple // (parts[n] + 1) * multiple >= context]
        if sides[0] * sides[1] <= most_pixels or not splittable:
            return [Tile(down, across) for down in rows for across in columns]
        parts[max(splittable, key=lambda n: sides[n])] += 1


def _spans(length: int, parts: int, multiple: int, context: int) -> list[Span]:
    """About equal parts of an axis."""
    bounds = [length // multiple * n // parts * multiple for n in range(parts + 1)]
    return [
        Span(start, end, before=context if start else 0, after=context if end < length else 0)
        for start, end in pairwise(bounds)
    ]
