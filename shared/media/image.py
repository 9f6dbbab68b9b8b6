"""Images as jobs carry them: a parameter on the way in, an encoded file on the way out."""

import base64
import hashlib
import io
import re
from collections.abc import Iterator
from typing import Any

from PIL import Image
from pydantic import BaseModel, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from shared.errors import InvalidInput, MediaTooLarge
from shared.media.addresses import split_url
from shared.media.decode import FORMATS, decode_image, flatten
from shared.media.fetch import Fetcher
from shared.media.sizes import in_words
from shared.schemas import ImageFormat

_ENCODINGS: dict[ImageFormat, dict[str, Any]] = {
    "png": {"compress_level": 2},  # half the time of the default for a tenth more bytes
    "jpeg": {"quality": 92},
    "webp": {"quality": 92, "method": 2},
}
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,40}:")
_DATA_URL = re.compile(r"data:[^,]{0,200};base64,", re.IGNORECASE)
_PREVIEW_SIDES = (512, 384, 256, 128, 64, 32)


class ImageInput:
    """A parameter that takes an image: a data URL, base64, or an http(s) URL; in Python, a PIL image too.

    Validation does no I/O. The runner calls `load` once, before the device is taken; `read_image` gives a handler
    the picture. The content never shows in `repr` or in a dump to JSON.
    """

    def __init__(self, source: str | Image.Image) -> None:
        """Take the source as it is.

        Raises:
            InvalidInput: a text that is none of the three forms; the message does not repeat it.
        """
        self.truncated = False
        self._url: str | None = None
        self._data: bytes | None = None
        self._image: Image.Image | None = None
        self._record: dict[str, Any] = {}
        if isinstance(source, Image.Image):
            self._image = flatten(source)
            self._record = {"pixels_sha256": pixels_sha256(self._image)}
        elif source.strip()[:6].lower().startswith(("http:", "https:")):
            self._url = str(split_url(source.strip()))
        else:
            self._data = _from_base64(source.strip())

    def load(self, fetcher: Fetcher, max_bytes: int, max_pixels: int) -> None:
        """Fetch and decode; nothing the second time.

        Raises:
            InvalidInput: the URL may not be used or does not answer, or the data is not an image.
            MediaTooLarge: more bytes or pixels than the limits.
        """
        if self._image is not None:
            return
        data = fetcher.get(self._url) if self._url else self._data or b""
        if len(data) > max_bytes:
            raise MediaTooLarge(
                f"the image is {in_words(len(data))}; the limit is {in_words(max_bytes)} (MAX_MEDIA_BYTES)"
            )
        self._image, self.truncated = decode_image(data, max_pixels)
        self._record = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        self._data = None

    def as_record(self) -> dict[str, Any]:
        """What a receipt may hold, after `load`: hash and size of the file, or the pixels' hash of a PIL image."""
        return dict(self._record)

    def __repr__(self) -> str:
        if self._image is not None:
            return f"ImageInput({self._image.width} x {self._image.height} pixels)"
        return "ImageInput(URL)" if self._url else f"ImageInput({len(self._data or b'')} bytes)"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """A string on the wire; its dump to JSON is the record."""
        return core_schema.no_info_plain_validator_function(
            _validate,
            serialization=core_schema.plain_serializer_function_ser_schema(cls.as_record, when_used="json"),
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """What the API reference says of it."""
        return {
            "type": "string",
            "format": "image",
            "description": f"Data URL, base64, or http(s) URL of a {', '.join(FORMATS)} image.",
        }


def _validate(value: Any) -> ImageInput:
    if isinstance(value, ImageInput):
        return value
    if not isinstance(value, str | Image.Image):
        raise PydanticCustomError("image_type", "an image is a data URL, base64, or an http(s) URL, as a string")
    try:
        return ImageInput(value)
    except InvalidInput as exc:
        raise PydanticCustomError("image_source", "{problem}", {"problem": exc.message}) from None


def _from_base64(text: str) -> bytes:
    found = _DATA_URL.match(text)
    encoded = text[found.end() :] if found else text
    scheme = _SCHEME.match(encoded)
    if scheme:
        what = "this data URL is" if scheme.group().lower() == "data:" else f"{scheme.group()[:20]} URLs are"
        raise InvalidInput(f"{what} not read; send a base64 data URL, base64, or an http(s) URL")
    encoded = "".join(encoded.split())  # `base64` on the command line wraps its lines
    if not encoded:
        raise InvalidInput("the image is empty; send a data URL, base64, or an http(s) URL")
    try:
        return base64.b64decode(encoded, validate=True)
    except ValueError as exc:
        raise InvalidInput("the text is neither a data URL, valid base64, nor an http(s) URL") from exc


def read_image(source: ImageInput) -> Image.Image:
    """The decoded picture, RGB, as a copy that the handler may change.

    Raises:
        RuntimeError: nobody loaded it; the runner does before it calls a handler.
    """
    if source._image is None:
        raise RuntimeError("the image was not loaded before the handler ran")
    return source._image.copy()


def image_inputs(params: BaseModel) -> list[ImageInput]:
    """Every image among the parameters, also inside lists, tuples and nested models, in the order of the fields."""
    return list(_walk(params))


def _walk(value: Any) -> Iterator[ImageInput]:
    if isinstance(value, ImageInput):
        yield value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _walk(getattr(value, name))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _walk(item)


def encode_image(image: Image.Image, image_format: ImageFormat) -> bytes:
    """The picture as an RGB file without metadata: PNG is lossless, JPEG and WEBP are not."""
    file = io.BytesIO()
    flatten(image).save(file, image_format.upper(), **_ENCODINGS[image_format])
    return file.getvalue()


def media_type(image_format: ImageFormat) -> str:
    """The MIME type of a format."""
    return f"image/{image_format}"


def pixels_sha256(image: Image.Image) -> str:
    """SHA-256 of `RGB {width}x{height}\\n` in ASCII, then the rows of 8-bit RGB from the top.

    The same for every lossless file of a picture.
    """
    plain = flatten(image)
    head = f"RGB {plain.width}x{plain.height}\n".encode("ascii")
    return hashlib.sha256(head + plain.tobytes()).hexdigest()


def data_url(data: bytes, mime: str) -> str:
    """`data:image/png;base64,...`"""
    return f"data:{mime};base64,{base64.b64encode(data).decode('ascii')}"


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
