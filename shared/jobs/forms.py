"""Reads the bodies of synchronous requests: JSON, or forms with files, made the parameters of a pipeline."""

from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import FormParser, MultiPartException, MultiPartParser

from shared.errors import InvalidInput, MediaTooLarge
from shared.jobs.uploads import Uploads
from shared.jobs.wire import DRAIN_BYTES, arriving, parse_json
from shared.media.sizes import in_words
from shared.schemas import Envelope, Params

JSON, MULTIPART, URLENCODED = "application/json", "multipart/form-data", "application/x-www-form-urlencoded"
MAX_PARTS = 1000
MOST_VALUES = 1_000_000  # of JSON; 64 MB of empty lists would take the loop for seconds, and memory for gigabytes
RESERVED = set(Envelope.model_fields) - {"delivery"}  # of a job's input, and decided by the route here

Given = dict[str, Any]
Body = AsyncGenerator[bytes, None]


@dataclass(frozen=True)
class Field:
    """What one parameter takes: JSON's types, whether a file, whether only some values; `item` if a list."""

    types: frozenset[str]
    media: bool = False
    closed: bool = False
    item: "Field | None" = None

    def read(self, text: str) -> Any:
        """A form's text as the parameter's value; text that does not fit is left for validation to name."""
        if "string" in self.types and not (self.types & {"object", "array"} and text[:1] in "{["):
            return text
        try:
            return parse_json(text.encode())
        except InvalidInput:
            return text

    def takes_empty(self) -> bool:
        """Whether an empty text may be its value, and does not mean that it is not given."""
        return "string" in self.types and not self.media and not self.closed


DELIVERY = Field(frozenset({"object"}))


class Fields:
    """The parameters of a pipeline, as requests carry them."""

    def __init__(self, params: type[Params]) -> None:
        schema = params.model_json_schema()
        known = {name: _field(found, schema) for name, found in schema["properties"].items()}
        self._known = {
            **known,
            "delivery": DELIVERY,
            **{other: known[own] for other, own in params.OTHER_NAMES.items()},
        }

    def of_json(self, body: Any) -> Given:
        """The parameters that a JSON object holds; empty text means not given where it can be no value."""
        if not isinstance(body, dict):
            raise _wrong([], "the body must be a JSON object", "dict_type")
        return {name: value for name, value in body.items() if value != "" or self._takes_empty(name)}

    def of_form(self, items: Iterable[tuple[str, str | bytes]]) -> Given:
        """The parameters that a form holds: repeated fields make a list, and empty ones are not given."""
        found: dict[str, list[str | bytes]] = {}
        for name, value in items:
            if value:
                found.setdefault(name, []).append(value)
        return {name: self._of_form(name, values) for name, values in found.items()}

    def _of_form(self, name: str, values: list[str | bytes]) -> Any:
        field = self._known.get(name)
        if field is None:
            return values[-1] if isinstance(values[-1], str) else "a file"
        if field.item is None or (len(values) == 1 and "string" in field.types):
            return _value(name, field, values[-1])
        only = values[0]
        if len(values) == 1 and isinstance(only, str) and only[:1] == "[":
            return field.read(only)
        return [_value(name, field.item, value) for value in values]

    def _takes_empty(self, name: str) -> bool:
        field = self._known.get(name)
        return field is not None and name != "model_id" and field.takes_empty()


async def read_request(request: Request, fields: Fields, uploads: Uploads) -> Given:
    """The parameters that a request sends; files as bytes, in memory.

    Raises:
        InvalidInput: the body is not what its Content-Type says, or names what the route decides.
        RequestTimeout: it stops coming, or comes too slowly.
        MediaTooLarge: it is larger than one file of `MAX_MEDIA_BYTES` would make it in base64.
        QueueFull: there is too much of others to be read at once.
    """
    with uploads.room(request.headers.get("Content-Length")):
        given = await _read(request, fields, uploads)
    for name in RESERVED & given.keys():
        raise _wrong([name], "Extra inputs are not permitted", "extra_forbidden")
    return given


async def _read(request: Request, fields: Fields, uploads: Uploads) -> Given:
    limit = uploads.limit
    body = _counted(request, limit)
    kind = request.headers.get("Content-Type", JSON).partition(";")[0].strip().lower()
    if kind == MULTIPART:
        return fields.of_form(await _multipart(request.headers, body, limit, uploads.max_file))
    if kind == URLENCODED:
        return fields.of_form(await _urlencoded(request.headers, body, limit))
    if kind == JSON or kind.endswith("+json"):
        return fields.of_json(_json(b"".join([chunk async for chunk in body])))
    raise _wrong([], f"send {JSON}, {MULTIPART} or {URLENCODED}", "content_type")


def _json(body: bytes) -> Any:
    if body.count(b",") > MOST_VALUES:
        raise _wrong([], f"it holds more than {MOST_VALUES:,} values", "json_invalid")
    try:
        return parse_json(body)
    except InvalidInput as exc:
        raise _wrong([], exc.message, "json_invalid") from exc


async def _multipart(headers: Headers, body: Body, limit: int, max_file: int) -> list[tuple[str, str | bytes]]:
    parser = _Parser(headers, body, max_files=MAX_PARTS, max_fields=MAX_PARTS, max_part_size=limit)
    parser.spool_max_size = limit + 1  # the body fits into memory: nothing is written to disk
    try:
        form = await parser.parse()
    except MultiPartException as exc:
        raise _wrong([], exc.message, "form_invalid") from exc
    if not parser.is_whole:
        await form.close()
        raise _wrong([], "the form ends before its last boundary", "form_invalid")
    try:
        return [(name, await _content(name, value, max_file)) for name, value in form.multi_items()]
    finally:
        await form.close()


class _Parser(MultiPartParser):
    """starlette's, which takes a form that was cut for a whole one."""

    is_whole = False

    def on_end(self) -> None:
        """The last boundary was read."""
        self.is_whole = True


async def _content(name: str, value: str | UploadFile, max_file: int) -> str | bytes:
    if isinstance(value, str):
        return value
    if (value.size or 0) > max_file:
        raise MediaTooLarge(
            f"{name[:64]} is {in_words(value.size or 0)}; the limit is {in_words(max_file)} (MAX_MEDIA_BYTES)"
        )
    return await value.read()


async def _urlencoded(headers: Headers, body: Body, limit: int) -> list[tuple[str, str | bytes]]:
    parser = FormParser(headers, body, max_fields=MAX_PARTS, max_part_size=limit)
    try:
        form: FormData = await parser.parse()
    except MultiPartException as exc:
        raise _wrong([], exc.message, "form_invalid") from exc
    return [(name, value) for name, value in form.multi_items() if isinstance(value, str)]


async def _counted(request: Request, limit: int) -> Body:
    """As `wire.read_body`: what is too much is read on for a while, since clients first send everything."""
    read = 0
    async for chunk in arriving(request):
        read += len(chunk)
        if read <= limit:
            yield chunk
        elif read > limit + DRAIN_BYTES:
            break
    if read > limit:
        raise MediaTooLarge(f"the body is larger than {in_words(limit)} (by MAX_MEDIA_BYTES)")


def _value(name: str, field: Field, value: str | bytes) -> Any:
    if isinstance(value, str):
        return field.read(value)
    if field.media:
        return value
    raise _wrong([name], "this field takes no file", "string_type")


def _wrong(loc: list[str], msg: str, kind: str) -> InvalidInput:
    return InvalidInput(f"{'.'.join(loc) or 'body'}: {msg}", errors=[{"loc": loc, "msg": msg, "type": kind}])


def _field(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Field:
    variants = list(_variants(schema, root))
    items = [v["items"] for v in variants if isinstance(v.get("items"), dict)]
    texts = [v for v in variants if v.get("type") == "string"]
    return Field(
        frozenset(str(v["type"]) for v in variants if "type" in v),
        media=any(v.get("format") in ("image", "video") for v in variants),
        closed=bool(texts) and all("enum" in v or "const" in v for v in texts),
        item=_field(items[0], root) if items else None,
    )


def _variants(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    if ref := schema.get("$ref"):
        yield from _variants(root["$defs"][ref.rpartition("/")[2]], root)
    elif anyof := schema.get("anyOf") or schema.get("oneOf"):
        for each in anyof:
            yield from _variants(each, root)
    else:
        yield schema
