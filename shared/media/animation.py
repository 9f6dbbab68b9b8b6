"""Animated WebP and PNG, and single pictures, read as videos through Pillow."""

import io
import itertools
import struct
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
from PIL import Image, ImageOps

from shared.errors import InvalidInput
from shared.media.decode import decode_image, flatten
from shared.media.frames import Frame, Pixels, VideoInfo, VideoLimits

_UNREADABLE = (OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, UserWarning, struct.error)
_EXIF_ORIENTATION = 0x0112
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
        self._durations_s = _durations_s(data)
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
                except (*_UNREADABLE, EOFError):
                    self.truncated = True
                    return
                yield Frame(np.asarray(flatten(_upright(image, self._orientation))), time_s)

    def _canvas(self, limits: VideoLimits) -> tuple[int, int]:
        with _opened(self._data) as image:
            limits.check_size(*image.size)
            self._orientation = _orientation(image)
            return image.size if self._orientation < 5 else (image.height, image.width)


def _opened(data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=("PNG", "WEBP"))
    except _UNREADABLE as exc:
        raise InvalidInput("the animation ends inside its header, or is damaged; save it anew") from exc


def _orientation(image: Image.Image) -> int:
    try:
        orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
    except _UNREADABLE:  # an animation with broken EXIF is still one
        return 1
    return orientation if orientation in range(1, 9) else 1


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    return ImageOps.exif_transpose(image) if orientation > 1 else image


def _durations_s(data: bytes) -> list[float]:
    """How long each frame is shown; empty for a single picture, and for what is no animation at all."""
    found = _webp_ms(data) if data[:4] == b"RIFF" else _png_ms(data) if data[:4] == b"\x89PNG" else iter(())
    return [ms / 1000 if ms > 10 else _AS_BROWSERS_DO_S for ms in found]


def _webp_ms(data: bytes) -> Iterator[float]:
    """https://developers.google.com/speed/webp/docs/riff_container#animation: 24 bits after x, y, width, height."""
    at = 12
    while at + 24 <= len(data):
        kind, size = struct.unpack_from("<4sI", data, at)
        if kind == b"ANMF":
            yield int.from_bytes(data[at + 20 : at + 23], "little")
        at += 8 + size + size % 2


def _png_ms(data: bytes) -> Iterator[float]:
    """https://www.w3.org/TR/png-3/#fcTL-chunk: numerator and denominator in seconds; a denominator of 0 is 100."""
    at = 8
    while at + 34 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"fcTL":
            over, under = struct.unpack_from(">HH", data, at + 28)
            yield 1000 * over / (under or 100)
        at += 12 + size
