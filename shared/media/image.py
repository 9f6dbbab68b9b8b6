"""Images as jobs carry them: a parameter on the way in, an encoded file on the way out."""

import hashlib
import io
from typing import Any

from PIL import Image

from shared.media.decode import FORMATS, decode_image, flatten, plain
from shared.media.source import MediaInput, MediaLimits, data_url
from shared.schemas import ImageFormat

_ENCODINGS: dict[ImageFormat, dict[str, Any]] = {
    "png": {"compress_level": 2},  # half the time of the default for a tenth more bytes
    "jpeg": {"quality": 92},
    "webp": {"quality": 92, "method": 2},
}
_PREVIEW_SIDES = (512, 384, 256, 128, 64, 32)


class ImageInput(MediaInput):
    """A parameter that takes an image; in Python, a PIL image too. `read_image` gives a handler the picture."""

    kind = "image"
    formats = ", ".join(FORMATS)
    decoded = (Image.Image,)

    _image: Image.Image
    _truncated = False

    @property
    def truncated(self) -> bool:
        """Whether the file ended before the picture's last row."""
        return self._truncated

    @property
    def pixels(self) -> int:
        """Of the decoded picture."""
        return self._image.width * self._image.height

    def file(self) -> bytes:
        """See MediaInput."""
        return self._data or encode_image(self._image, "png")

    def _take(self, source: Image.Image) -> None:
        self._image = plain(source)
        self._record = {"pixels_sha256": pixels_sha256(self._image)}

    def _decode(self, data: bytes, limits: MediaLimits) -> None:
        self._image, self._truncated = decode_image(data, limits.max_pixels)

    def _shape(self) -> str:
        return f"{self._image.width} x {self._image.height} pixels"


def read_image(source: ImageInput, *, alpha: bool = False) -> Image.Image:
    """The decoded picture, as a copy that the handler may change: RGB, transparency on white.

    With `alpha` it is RGBA where the picture is transparent somewhere.

    Raises:
        RuntimeError: nobody loaded it; the runner does before it calls a handler.
    """
    if not source._is_loaded:
        raise RuntimeError("the image was not loaded before the handler ran")
    return source._image.copy() if alpha else flatten(source._image)


def encode_image(image: Image.Image, image_format: ImageFormat) -> bytes:
    """The picture as a file without metadata: PNG is lossless, JPEG and WEBP are not, and JPEG holds no alpha."""
    file = io.BytesIO()
    (flatten(image) if image_format == "jpeg" else plain(image)).save(
        file, image_format.upper(), **_ENCODINGS[image_format]
    )
    return file.getvalue()


def pixels_sha256(image: Image.Image) -> str:
    """SHA-256 of `RGB {width}x{height}\\n` in ASCII, then the rows of 8-bit RGB from the top.

    The same for every lossless file of a picture.
    """
    plain = flatten(image)
    digest = hashlib.sha256(f"RGB {plain.width}x{plain.height}\n".encode("ascii"))
    digest.update(plain.tobytes())
    return digest.hexdigest()


def preview_data_url(image: Image.Image, max_bytes: int = 64_000) -> str:
    """A small JPEG as a data URL, which as a whole is at most `max_bytes` long (2,000 suffice)."""
    small = flatten(image)
    for side in _PREVIEW_SIDES:
        small.thumbnail((side, side))
        file = io.BytesIO()
        small.save(file, "JPEG", quality=75)
        url = data_url(file.getvalue(), "image/jpeg")
        if len(url) <= max_bytes:
            return url
    raise ValueError(f"no preview fits into {max_bytes} bytes")
