"""Runs a network over pictures tile by tile, so that neither memory nor the wait for a stop grows with their size."""

import itertools
import math
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shared.device import classify, free_memory
from shared.errors import OutOfMemory
from shared.media.frames import Pixels

if TYPE_CHECKING:
    from shared.device import Device

OnTile = Callable[[int, int], None]

UNIT = 4  # tiles begin at multiples of it, as networks that make one pixel of several want
CONTEXT = 32  # pixels around a tile that its network sees too; what lies farther changes next to nothing
MARGIN = 8  # of them beyond the picture, its edge repeated: networks draw a rim where it ends
SMALLEST, LARGEST = 32, 1024  # sides; the largest bounds what nothing can interrupt
SIDE = 256  # where memory is the machine's own: a compromise between lost context and the wait for a stop
MOST_FRAMES = 16  # in one run of the network, however small they are
SHARE = 0.5  # of the card's free memory; the rest is for workspaces and for copies that are not foreseen


class Network(Protocol):
    """What can be run in tiles: (n, 3, h, w) in 0..1 to (n, 3, scale * h, scale * w).

    `reach` is how far from a pixel the network looks at most, in pixels of the input; `live_values` how many numbers
    it holds at once, at its widest, for each of them.
    """

    scale: int
    reach: int
    live_values: int

    def __call__(self, pictures: Tensor) -> Tensor:
        """The pictures, enlarged."""


class Tile(NamedTuple):
    """A part of several frames of one size: from each first row or column up to, and without, the last."""

    frames: tuple[int, int]
    rows: tuple[int, int]
    columns: tuple[int, int]


class Tiles:
    """A network with the tile size that memory allows; it gets smaller when memory runs out, and stays so."""

    def __init__(
        self,
        network: Network,
        device: "Device",
        dtype: torch.dtype,
        *,
        side: int | None = None,
        context: int = CONTEXT,
    ) -> None:
        """Args: `side` is that of a tile in pixels of the input; by default what fits into memory."""
        self._network = network
        self.scale = network.scale
        self._device = device
        self._dtype = dtype
        self._context = math.ceil(min(network.reach, context) / UNIT) * UNIT
        side = side or _side_that_fits(network, device, dtype, self._context)
        self.side = max(SMALLEST, side // UNIT * UNIT)

    def frames_at_once(self, height: int, width: int) -> int:
        """How many frames of a size are as much work as one tile, 1 to 16."""
        return max(1, min(MOST_FRAMES, self.side**2 // (height * width)))

    def __call__(self, frames: Pixels, on_tile: OnTile) -> Pixels:
        """Enlarge frames: RGB (n, h, w, 3) to (n, scale * h, scale * w, 3).

        `on_tile(done, total)` is called after each tile, and may raise; the total grows where memory runs out.

        Raises:
            OutOfMemory: not even the smallest tile fits.
        """
        count, height, width = frames.shape[:3]
        scale = self.scale
        enlarged = np.empty((count, height * scale, width * scale, 3), np.uint8)
        todo, done = deque(_split(Tile((0, count), (0, height), (0, width)), self.side)), 0
        while todo:
            if not self._fits(frames, todo[0], enlarged):
                self._shrink()
                todo = deque(piece for tile in todo for piece in _split(tile, self.side))
                continue
            todo.popleft()
            done += 1
            on_tile(done, done + len(todo))
        return enlarged

    def _fits(self, frames: Pixels, tile: Tile, enlarged: Pixels) -> bool:
        """Enlarge one tile, unless memory runs out."""
        try:
            self._enlarge(frames, tile, enlarged)
        except Exception as exc:
            if classify(exc) != "out_of_memory":
                raise
            if self.side <= SMALLEST:
                raise OutOfMemory(
                    f"not even a tile of {SMALLEST} x {SMALLEST} pixels fits into memory; use a smaller network"
                ) from exc
            return False
        return True

    def _shrink(self) -> None:
        free_memory()  # not in the handler of the error, whose frames hold the tensors
        self.side = max(SMALLEST, self.side // 2 // UNIT * UNIT)

    def _enlarge(self, frames: Pixels, tile: Tile, enlarged: Pixels) -> None:
        scale, (first, last) = self.scale, tile.frames
        top, bottom = self._with_context(tile.rows, frames.shape[1])
        left, right = self._with_context(tile.columns, frames.shape[2])
        made = self._run(
            frames[first:last, _inside(top, bottom, frames.shape[1])][:, :, _inside(left, right, frames.shape[2])]
        )
        rows = slice((tile.rows[0] - top) * scale, (tile.rows[1] - top) * scale)
        columns = slice((tile.columns[0] - left) * scale, (tile.columns[1] - left) * scale)
        place = [slice(begin * scale, end * scale) for begin, end in (tile.rows, tile.columns)]
        enlarged[first:last, place[0], place[1]] = made[:, rows, columns].cpu().numpy()

    def _with_context(self, span: tuple[int, int], length: int) -> tuple[int, int]:
        margin = min(MARGIN, self._context)
        return max(-margin, span[0] - self._context), min(length + margin, span[1] + self._context)

    @torch.inference_mode()
    def _run(self, pixels: Pixels) -> Tensor:
        given = torch.from_numpy(pixels).to(self._device.kind)
        made = self._network(given.permute(0, 3, 1, 2).to(self._dtype) / 255)
        return made.mul(255).round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


def _inside(begin: int, end: int, length: int) -> NDArray[np.intp]:
    """The rows or columns from `begin` to `end`, the first and the last for those beyond the picture."""
    return np.arange(begin, end).clip(0, length - 1)


def _split(tile: Tile, side: int) -> Iterator[Tile]:
    """The parts of a tile that have at most `side` x `side` pixels in all their frames together."""
    height, width = (end - begin for begin, end in (tile.rows, tile.columns))
    frames = max(1, min(MOST_FRAMES, side**2 // (min(height, side) * min(width, side))))
    parts = itertools.product(
        _cut(tile.frames, frames, 1), _cut(tile.rows, side, UNIT), _cut(tile.columns, side, UNIT)
    )
    return itertools.starmap(Tile, parts)


def _cut(span: tuple[int, int], most: int, unit: int) -> list[tuple[int, int]]:
    """Parts of at most `most`, about equal, that begin at multiples of `unit`."""
    begin, end = span
    count = math.ceil((end - begin) / most)
    step = math.ceil((end - begin) / count / unit) * unit
    return [(at, min(at + step, end)) for at in range(begin, end, step)]


def _side_that_fits(network: Network, device: "Device", dtype: torch.dtype, context: int) -> int:
    if device.kind != "cuda":
        return SIDE
    free = torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
    side = math.isqrt(int(SHARE * free / (network.live_values * dtype.itemsize))) - 2 * context
    # a power of two, so that a little more or less free memory makes no other picture
    return min(LARGEST, 1 << (max(SMALLEST, side).bit_length() - 1))
