"""Files that jobs name: a data URL, base64, or an http(s) URL, fetched once and before the device is taken."""

import base64
import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from pydantic import BaseModel, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from shared.errors import InvalidInput, MediaTooLarge
from shared.media.addresses import split_url
from shared.media.fetch import Fetcher
from shared.media.sizes import in_words

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,40}:")
_DATA_URL = re.compile(r"data:[^,]{0,200};base64,", re.IGNORECASE)


@dataclass(frozen=True)
class MediaLimits:
    """The largest that a worker reads: bytes of a file, pixels of a picture, frames and seconds of a video.

    The pictures of one job may have so many times the pixels of one together.
    """

    PICTURES: ClassVar[int] = 4

    max_bytes: int
    max_pixels: int
    max_frames: int
    max_seconds: float


class MediaInput(ABC):
    """A parameter that takes a file.

    Validation does no I/O. The runner calls `load` once, before the device is taken. The content never shows in
    `repr` or in a dump to JSON.
    """

    kind: ClassVar[str] = "file"
    formats: ClassVar[str] = ""
    decoded: ClassVar[tuple[type, ...]] = ()
    """What a handler may pass in Python instead."""

    def __init__(self, source: Any) -> None:
        """Take the source as it is.

        Raises:
            InvalidInput: a text that is none of the three forms; the message does not repeat it.
        """
        self._url: str | None = None
        self._data: bytes | None = None
        self._record: dict[str, Any] = {}
        self._is_loaded = False
        if isinstance(source, self.decoded):
            self._take(source)
            self._is_loaded = True
        elif isinstance(source, bytes):
            self._data = source
        elif source.strip()[:6].lower().startswith(("http:", "https:")):
            self._url = str(split_url(source.strip()))
        else:
            self._data = self._from_base64(source.strip())

    @classmethod
    def to_come(cls) -> Self:
        """Stands for what another pipeline is to make, while a job is planned; cannot be loaded."""
        return cls.__new__(cls)

    @property
    @abstractmethod
    def truncated(self) -> bool:
        """Whether the file was found to end too soon."""

    @property
    @abstractmethod
    def pixels(self) -> int:
        """What it holds decoded, after `load`."""

    @abstractmethod
    def _take(self, source: Any) -> None:
        """Keep what a handler passes, and what a receipt may hold of it."""

    @abstractmethod
    def _decode(self, data: bytes, limits: MediaLimits) -> None:
        """Keep what the file holds.

        Raises:
            InvalidInput, MediaTooLarge: it is no such file, or larger than the limits.
        """

    @abstractmethod
    def _shape(self) -> str:
        """What `repr` says of it once it is loaded."""

    def load(self, fetcher: Fetcher, limits: MediaLimits, *, keep: bool = False) -> None:
        """Fetch and decode; nothing the second time. With `keep`, `file` has the bytes afterwards.

        Raises:
            InvalidInput: the URL may not be used or does not answer, or the data is no such file.
            MediaTooLarge: it is larger than the limits.
        """
        if self._is_loaded:
            return
        data = fetcher.get(self._url) if self._url else self._data or b""
        if len(data) > limits.max_bytes:
            raise MediaTooLarge(
                f"the {self.kind} is {in_words(len(data))}; the limit is {in_words(limits.max_bytes)} "
                "(MAX_MEDIA_BYTES)"
            )
        self._decode(data, limits)
        self._record = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        self._data = data if keep else None
        self._is_loaded = True

    @abstractmethod
    def file(self) -> bytes:
        """The file as it was sent, of one that was loaded to be kept; else one without loss of what it shows."""

    def as_record(self) -> dict[str, Any]:
        """What a receipt may hold, after `load`: hash and size of the file, or the hash of what a handler passed."""
        return dict(self._record)

    def __repr__(self) -> str:
        name = type(self).__name__
        if self._is_loaded:
            return f"{name}({self._shape()})"
        return f"{name}(URL)" if self._url else f"{name}({len(self._data or b'')} bytes)"

    @classmethod
    def _validate(cls, value: Any) -> Self:
        if isinstance(value, cls):
            return value
        if not isinstance(value, (str, bytes, *cls.decoded)):  # bytes: of a form; JSON has none
            raise PydanticCustomError(
                "media_type",
                "the {kind} is given as a string: a data URL, base64, or an http(s) URL",
                {"kind": cls.kind},
            )
        try:
            return cls(value)
        except InvalidInput as exc:
            raise PydanticCustomError("media_source", "{problem}", {"problem": exc.message}) from None

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """A string on the wire; its dump to JSON is the record."""
        return core_schema.no_info_plain_validator_function(
            cls._validate,
            serialization=core_schema.plain_serializer_function_ser_schema(cls.as_record, when_used="json"),
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """What the API reference says of it."""
        return {
            "type": "string",
            "format": cls.kind,
            "description": f"Data URL, base64, or http(s) URL of a {cls.formats} {cls.kind}.",
        }

    @classmethod
    def _from_base64(cls, text: str) -> bytes:
        found = _DATA_URL.match(text)
        encoded = text[found.end() :] if found else text
        scheme = _SCHEME.match(encoded)
        if scheme:
            what = "this data URL is" if scheme.group().lower() == "data:" else f"{scheme.group()[:20]} URLs are"
            raise InvalidInput(f"{what} not read; send a base64 data URL, base64, or an http(s) URL")
        encoded = "".join(encoded.split())  # `base64` on the command line wraps its lines
        if not encoded:
            raise InvalidInput(f"the {cls.kind} is empty; send a data URL, base64, or an http(s) URL")
        try:
            return base64.b64decode(encoded, validate=True)
        except ValueError as exc:
            raise InvalidInput("the text is neither a data URL, valid base64, nor an http(s) URL") from exc


def media_inputs(params: BaseModel) -> list[MediaInput]:
    """Every file among the parameters, also inside lists, tuples and nested models, in the order of the fields."""
    return list(_walk(getattr(params, name) for name in type(params).__pydantic_fields__))


def _walk(values: Iterable[Any]) -> Iterator[MediaInput]:
    for value in values:
        if isinstance(value, MediaInput):
            yield value
        elif isinstance(value, list | tuple):
            yield from _walk(value)
        elif isinstance(value, dict):
            yield from _walk(value.values())
        elif isinstance(value, BaseModel):
            yield from media_inputs(value)


def data_url(data: bytes, mime: str) -> str:
    """`data:image/png;base64,...`"""
    return f"data:{mime};base64,{base64.b64encode(data).decode('ascii')}"
