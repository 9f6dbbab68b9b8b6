"""Animated WebP and PNG, and single pictures, read as videos through Pillow."""

import io
import itertools
import struct
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
from PIL import Image

from shared.errors import InvalidInput
from shared.media.decode import UNREADABLE, decode_image, flatten, orientation, upright
from shared.media.frames import Frame, Pixels, VideoInfo, VideoLimits

_AS_BROWSERS_DO_S = 0.1  # a frame of 0 to 10 ms is shown this long


class Animation:
    """A PNG, JPEG or WebP; the durations of its frames stand in the file, so its length is known without decoding."""

    def __init__(self, data: bytes, limits: VideoLimits) -> None:
        """Read the header, and decode a single picture.

        Raises:
            InvalidInput: it cannot be read.
            MediaTooLarge: a frame has too many pixels, or there are too many frames or seconds.
        """
        self.truncated = False
        self._data = data
        marks = list(_marks(data))
        self._durations_s = [ms / 1000 if ms > 10 else _AS_BROWSERS_DO_S for ms, _ in marks]
        self._packet_bytes = [end - at for at, end in itertools.pairwise([*(at for _, at in marks), len(data)])]
        seconds = sum(self._durations_s)
        limits.check_length(len(self._durations_s), seconds)
        self._still: Pixels | None = None
        if len(self._durations_s) < 2:
            image, self.truncated = decode_image(data, limits.max_pixels)
            self._still = np.asarray(image)
            width, height = image.size
        else:
            width, height = self._canvas(limits)
        frames = max(1, len(self._durations_s))
        self.info = VideoInfo(
            width=width,
            height=height,
            fps=Fraction(frames / seconds).limit_denominator(1001) if self._still is None else Fraction(1),
            frames=frames,
            seconds=seconds if self._still is None else None,
            has_audio=False,
            container={b"RIFF": "webp", b"\x89PNG": "png"}.get(data[:4], "jpeg"),
            is_constant=len(set(self._durations_s)) < 2,
        )

    def frames(self) -> Iterator[Frame]:
        """The frames in their order; it ends early, and `truncated` is set, where the file does."""
        if self._still is not None:
            yield Frame(self._still.copy(), 0.0)
            return
        with _opened(self._data) as image:
            for number, time_s in enumerate(itertools.accumulate(self._durations_s[:-1], initial=0.0)):
                try:
                    image.seek(number)
                    image.load()
                except UNREADABLE:
                    self.truncated = True
                    return
                yield Frame(np.asarray(flatten(upright(image, self._orientation))), time_s)

    def packet_bytes(self) -> list[int]:
        """How many bytes each frame takes."""
        return self._packet_bytes

    def _canvas(self, limits: VideoLimits) -> tuple[int, int]:
        with _opened(self._data) as image:
            limits.check_size(*image.size)
            self._orientation = orientation(image)
            return image.size if self._orientation < 5 else (image.height, image.width)


def _opened(data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=("PNG", "WEBP"))
    except UNREADABLE as exc:
        raise InvalidInput("the animation ends inside its header, or is damaged; save it anew") from exc


def _marks(data: bytes) -> Iterator[tuple[float, int]]:
    """How many ms each frame is shown, and where it begins in the file; none for what is no animation."""
    return _of_webp(data) if data[:4] == b"RIFF" else _of_png(data) if data[:4] == b"\x89PNG" else iter(())


def _of_webp(data: bytes) -> Iterator[tuple[float, int]]:
    """https://developers.google.com/speed/webp/docs/riff_container#animation: 24 bits after x, y, width, height."""
    at = 12
    while at + 24 <= len(data):
        kind, size = struct.unpack_from("<4sI", data, at)
        if kind == b"ANMF":
            yield int.from_bytes(data[at + 20 : at + 23], "little"), at
        at += 8 + size + size % 2


def _of_png(data: bytes) -> Iterator[tuple[float, int]]:
    """https://www.w3.org/TR/png-3/#fcTL-chunk: numerator and denominator in seconds; a denominator of 0 is 100."""
    at = 8
    while at + 34 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"fcTL":
            over, under = struct.unpack_from(">HH", data, at + 28)
            yield 1000 * over / (under or 100), at
        at += 12 + size
