"""Frames between the frames of a video, drawn by FILM on the device."""

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from shared.device import classify, free_memory
from shared.media.frames import Pixels
from shared.models import film_weights, placing
from shared.models.seams import tiles
from shared.models.stages import Stages
from shared.schemas import ModelSource

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from shared.device import Device
    from shared.models.film import FILM, Encoded, Flows

HALF = Fraction(1, 2)
# Halves made before a time that halving never meets is left to the network. Thirds by the demo model: 33.4 dB and the
# shape 0.028 of its way off with none, 33.5 dB and 0.015 with one, 32.6 dB and 0.019 with two.
HALVINGS = 1
BYTES_PER_PIXEL = 100  # of one pair on a card, for each filter of the network, in half precision
PIXELS_ON_CPU = 2**19  # the published network takes 5 kB for each
LEAST_PIXELS = 384 * 384
CONTEXT = 96  # pixels that neighbouring tiles share on each side: what moves further across a seam may show there


class Interpolator:
    """FILM, warm on its device. Frames of more pixels than fit at once are drawn in tiles."""

    def __init__(
        self,
        film: "FILM",
        device: "Device",
        *,
        most_pixels: int | None = None,
        loading: dict[str, Any] | None = None,
    ) -> None:
        """Args: `film` lies on the device; `most_pixels` are drawn at once, by its free memory if not given.

        `loading` is what loading it took, seconds by stage.
        """
        self.film = film
        self.device = device
        self.loading = loading or {}
        self._most_pixels = most_pixels

    def to_device(self, device: "Device") -> Self:
        """The network, which was read for such a device, on it."""
        loading = placing.move([self.film], device)
        return type(self)(self.film, device, most_pixels=self._most_pixels, loading=loading)

    def most_pixels(self) -> int:
        """How many pixels can be drawn at once now."""
        return self._most_pixels or _pixels_that_fit(self.film.sizes.filters, self.device)

    def clip(self, check: Callable[[], None]) -> "Clip":
        """One video's run through the network; `check` is called between pieces of work, and may raise."""
        return Clip(self, check)


def _pixels_that_fit(filters: int, device: "Device") -> int:
    """A power of two, so that a little more or less free memory makes no other picture."""
    if device.kind != "cuda":
        return PIXELS_ON_CPU
    import torch

    # what torch keeps for itself is free for the next run
    free = torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
    fits = int(free * 0.8) // (BYTES_PER_PIXEL * filters)
    return max(LEAST_PIXELS, 1 << (fits.bit_length() - 1))


class Frame:
    """A picture on the device, padded to what the network takes, with what was computed of it."""

    def __init__(self, image: "Tensor") -> None:
        self.image = image
        self.encoded: Encoded | None = None
        self.flows: tuple[Frame, Flows] | None = None  # between this frame and a later one

    def forget(self) -> None:
        """Keep the picture only."""
        self.encoded = self.flows = None


class Clip:
    """One video's run through the network, pair by pair; the later frame's features are kept for the next pair.

    Where memory runs out, it is drawn in smaller tiles to its end; the next video begins anew.
    """

    def __init__(self, model: Interpolator, check: Callable[[], None]) -> None:
        self._model = model
        self._check = check
        self._most_pixels = model.most_pixels()
        self._latest: tuple[Pixels, Frame] | None = None

    def between(self, first: Pixels, last: Pixels, times: Sequence[Fraction]) -> Iterator[Pixels]:
        """The frames at rising times between two frames of one size, 0 < time < 1, each drawn when it is asked for.

        The network knows the middle only: halves are halved again. Times that no halving meets are left to it within
        a half.
        """
        if not times:
            return
        before, after = self._frame(first), self._frame(last)
        self._latest = last, after
        for frame in self._fill(before, after, list(times), HALVINGS):
            yield self._to_pixels(frame.image, first.shape[0], first.shape[1])

    def _frame(self, pixels: Pixels) -> Frame:
        if self._latest and self._latest[0] is pixels:
            return self._latest[1]
        return Frame(self._to_device(pixels))

    def _fill(self, first: Frame, last: Frame, times: list[Fraction], halvings: int) -> Iterator[Frame]:
        """`times` count from the first frame, 0, to the last, 1, also where those are drawn themselves."""
        if not times:
            return
        if halvings < 1 and not any(_is_met_by_halving(time) for time in times):
            for time in times:
                yield self._draw(first, last, time)
            return
        middle = self._draw(first, last, HALF)
        yield from self._fill(first, middle, [2 * time for time in times if time < HALF], halvings - 1)
        if HALF in times:
            yield middle
        yield from self._fill(middle, last, [2 * time - 1 for time in times if time > HALF], halvings - 1)

    def _draw(self, first: Frame, last: Frame, time: Fraction) -> Frame:
        """The frame at a time between two; in smaller and smaller tiles while memory runs out."""
        while True:
            drawn = self._attempt(first, last, float(time))
            if drawn is not None:
                return Frame(drawn)
            first.forget()
            last.forget()

    def _attempt(self, first: Frame, last: Frame, time: float) -> "Tensor | None":
        import torch

        try:
            with torch.inference_mode():
                if first.image[0, 0].numel() <= self._most_pixels:
                    return self._whole(first, last, time)
                return self._tiled(first.image, last.image, time)
        except (RuntimeError, MemoryError) as exc:
            if classify(exc) != "out_of_memory" or not self._shrink():
                raise
        return None  # outside of the handler, whose error holds on to what filled the memory

    def _shrink(self) -> bool:
        """Draw half as many pixels at once from now on; False where that were too few."""
        if self._most_pixels < 2 * LEAST_PIXELS:
            return False
        self._most_pixels //= 2
        free_memory()
        return True

    def _whole(self, first: Frame, last: Frame, time: float) -> "Tensor":
        one, other = self._encoded(first), self._encoded(last)
        if first.flows is None or first.flows[0] is not last:
            self._check()
            first.flows = last, self._model.film.flows(one, other)
        return self._fused(one, other, first.flows[1], time)

    def _encoded(self, frame: Frame) -> "Encoded":
        if frame.encoded is None:
            self._check()
            frame.encoded = self._model.film.encode(frame.image)
        return frame.encoded

    def _fused(self, first: "Encoded", last: "Encoded", flows: "Flows", time: float) -> "Tensor":
        self._check()
        at = flows.forward[0].new_full((1, 1), time)
        return self._model.film.between(first, last, flows, at).clamp(0, 1)

    def _tiled(self, first: "Tensor", last: "Tensor", time: float) -> "Tensor":
        film = self._model.film
        drawn = first.new_zeros(first.shape).float()  # many tiles are added up
        parts = tiles(*first.shape[2:], most_pixels=self._most_pixels, multiple=film.sizes.multiple, context=CONTEXT)
        for tile in parts:
            self._check()
            one, other = (film.encode(tile.cut(image)) for image in (first, last))
            self._check()
            tile.blend(drawn, self._fused(one, other, film.flows(one, other), time))
        return drawn.to(first.dtype)

    def _to_device(self, pixels: Pixels) -> "Tensor":
        """(1, 3, height, width) from 0 to 1, its last rows and columns repeated up to what the network takes."""
        import torch

        multiple = self._model.film.sizes.multiple
        missing = [(0, -side % multiple) for side in pixels.shape[:2]]
        padded = torch.from_numpy(np.pad(pixels, [*missing, (0, 0)], mode="edge"))
        image = padded.to(self._model.device.kind).permute(2, 0, 1)[None].to(self._model.device.dtype) / 255
        return image.contiguous(memory_format=_memory_format(self._model.device))

    def _to_pixels(self, image: "Tensor", height: int, width: int) -> Pixels:
        import torch

        bytes_ = (image[0, :, :height, :width].float() * 255).round().to(torch.uint8)
        return np.ascontiguousarray(bytes_.permute(1, 2, 0).cpu().numpy())


def _is_met_by_halving(time: Fraction) -> bool:
    return time.denominator & (time.denominator - 1) == 0


def _memory_format(device: "Device") -> "torch.memory_format":
    """Channels last where tensor cores want them."""
    import torch

    return torch.channels_last if device.runs_on == "cuda" else torch.contiguous_format


def load(source: ModelSource, device: "Device") -> Interpolator:
    """Read a network, and place it on the device: half precision on CUDA.

    Raises:
        ModelUnavailable: there are no weights of FILM, or a pickle that the catalog does not allow.
    """
    stages = Stages()
    with stages.measure("files"):
        film = film_weights.load(source)
    layout = _memory_format(device)
    with stages.measure("to_device"):
        film.to(device=device.kind, dtype=device.dtype, memory_format=layout)  # type: ignore[call-overload]
        if device.bound_for:
            placing.keep([film])
    return Interpolator(film, device, loading=stages.seconds)
