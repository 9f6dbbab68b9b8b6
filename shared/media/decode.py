"""A picture from the bytes of a stranger."""

import io
import struct
import zlib
from typing import NamedTuple

from PIL import Image, ImageFile

from shared.errors import InvalidInput, MediaTooLarge

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")

# The size is checked below, from the header, against a limit of our own; Pillow's would warn or raise before it.
Image.MAX_IMAGE_PIXELS = None

UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    EOFError,
    UserWarning,  # an error where warnings are errors
    struct.error,
    zlib.error,
)
"""What Pillow's readers raise on bytes that are not what they seem."""

_EXIF_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class Decoded(NamedTuple):
    """A picture as `plain` has it, upright; `truncated` when the file ended or broke before its last row."""

    image: Image.Image
    truncated: bool


def decode_image(data: bytes, max_pixels: int) -> Decoded:
    """Decode the first frame of a PNG, JPEG, WEBP, GIF, BMP or TIFF.

    A file cut after its header loads as far as it goes, the rest unpainted; WEBP and compressed TIFF are read whole
    or not at all. Safe from any thread.

    Raises:
        InvalidInput: not an image of these formats, or cut inside its header.
        MediaTooLarge: more than `max_pixels`; known from the header, before anything is decoded.
    """
    if not data:
        raise InvalidInput("the image is empty; send its bytes")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UNREADABLE as exc:
        raise InvalidInput(
            f"the data is not an image that can be read, or ends inside its header; send {', '.join(FORMATS)}"
        ) from exc
    if image.width * image.height > max_pixels:
        raise MediaTooLarge(
            f"the image has {image.width} x {image.height} pixels; the limit is {max_pixels:,} (MAX_IMAGE_PIXELS)"
        )
    try:
        truncated = _load(image)
        return Decoded(plain(upright(image, orientation(image))), truncated)
    except UNREADABLE as exc:
        raise InvalidInput(f"the {image.format} image is damaged and cannot be read; save it anew") from exc


def _load(image: ImageFile.ImageFile) -> bool:
    """Decode into the image; whether the data ended too soon."""
    try:
        image.load()
    except (OSError, SyntaxError):
        # Pillow's LOAD_TRUNCATED_IMAGES is one switch for all threads. The rows decoded so far are in the image
        # already; without tiles left to decode, it counts as loaded.
        image.tile = []
        image.load()
        return True
    return False


def orientation(image: Image.Image) -> int:
    """What EXIF says, 1 to 8; 1 where it is missing or broken."""
    try:
        found = image.getexif().get(_EXIF_ORIENTATION, 1)
    except UNREADABLE:  # a picture with broken EXIF is still a picture
        return 1
    return found if found in range(1, 9) else 1


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """The picture turned as EXIF's orientation says."""
    return image.transpose(_UPRIGHT[orientation]) if orientation > 1 else image


def plain(image: Image.Image) -> Image.Image:
    """A copy of the picture as 8-bit RGB, or as RGBA where it is transparent somewhere; no metadata."""
    if image.mode.startswith("I;16"):
        image = image.convert("I").point(lambda shade: shade * (1 / 256)).convert("L")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema() == (255, 255):
            image = image.convert("RGB")
    else:
        image = image.convert("RGB")
    image.info = {}
    return image


def flatten(image: Image.Image) -> Image.Image:
    """The picture as `plain` has it, with what is transparent on white: RGB."""
    image = plain(image)
    if image.mode == "RGB":
        return image
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")
