"""A picture brought to the shape that a model draws, and its area found again in what the model drew."""

from dataclasses import dataclass
from typing import Literal

from PIL import Image, ImageOps

from shared.media.frames import Pixels

Fit = Literal["crop", "letterbox"]


@dataclass(frozen=True)
class Framed:
    """A picture in a model's shape; `box` is the part of it that shows what was given: left, top, right, bottom."""

    image: Image.Image
    box: tuple[int, int, int, int]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the part that shows what was given."""
        left, top, right, bottom = self.box
        return right - left, bottom - top

    def cut(self, pixels: Pixels) -> Pixels:
        """That part of a frame in the model's shape."""
        left, top, right, bottom = self.box
        return pixels[top:bottom, left:right]


def framed(image: Image.Image, width: int, height: int, fit: Fit) -> Framed:
    """The picture at `width` x `height`, never squeezed: its middle, or the whole of it between black bars.

    Between bars, its sides are even, as the encoders of videos want them.
    """
    if fit == "crop":
        filled = ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS)
        return Framed(filled, (0, 0, width, height))
    scale = min(width / image.width, height / image.height)
    inner = [max(2, round(side * scale / 2) * 2) for side in image.size]
    left, top = (width - inner[0]) // 2, (height - inner[1]) // 2
    barred = Image.new("RGB", (width, height))
    barred.paste(image.resize(inner, Image.Resampling.LANCZOS), (left, top))
    return Framed(barred, (left, top, left + inner[0], top + inner[1]))
