"""Reads what clients and workers send: bodies without buffering too much, JSON without NaN, numbers within bounds."""

import asyncio
import json
from collections.abc import AsyncGenerator, Coroutine
from typing import Any, TypeVar

from fastapi import Request
from starlette.requests import ClientDisconnect

from shared.errors import InvalidInput, MediaTooLarge, RequestTimeout

T = TypeVar("T")

MIB = 2**20
DRAIN_BYTES = 64 * MIB
STALLED_S = 20.0  # for the next piece of a body to come
LEAST_RATE = 32_768  # bytes a second, on the whole: of a body that takes longer than `STALLED_S`


async def arriving(request: Request) -> AsyncGenerator[bytes, None]:
    """A body in the pieces in which it comes. One that a client trickles would hold its room as long as that likes.

    Raises:
        RequestTimeout: nothing came for `STALLED_S`, or too little on the whole.
        ClientDisconnect: nothing will come any more.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + STALLED_S
    more = True
    while more:
        try:
            async with asyncio.timeout_at(min(until, loop.time() + STALLED_S)):
                message = await request.receive()
        except TimeoutError as exc:
            raise RequestTimeout(
                f"the body stopped for {STALLED_S:g} s, or came at under {LEAST_RATE // 1024} KiB/s; send it again"
            ) from exc
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        piece, more = message.get("body", b""), message.get("more_body", False)
        until += len(piece) / LEAST_RATE
        yield piece


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body.

    A body over the limit is read on for a while and thrown away, since most clients look at the answer only after
    they have sent everything; then it is refused all the same.

    Raises:
        MediaTooLarge: when it is longer than `limit` bytes.
        RequestTimeout, ClientDisconnect: as `arriving`.
    """
    body = bytearray()
    read = 0
    async for chunk in arriving(request):
        read += len(chunk)
        if read <= limit:
            body += chunk
        elif read > limit + DRAIN_BYTES:
            break
    if read > limit:
        raise MediaTooLarge(f"body: exceeded max body size of {limit // MIB}MiB")
    return bytes(body)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


_decoder = json.JSONDecoder(parse_constant=_refuse_constant)  # `json.loads` would make one each time


def parse_json(body: bytes) -> Any:
    """The value of a JSON text.

    Raises:
        InvalidInput: when it is not JSON; NaN and Infinity are not.
    """
    try:
        return _decoder.decode(body.decode(json.detect_encoding(body), "surrogatepass"))
    except (ValueError, RecursionError) as exc:
        raise InvalidInput(f"body: not JSON ({exc})") from exc


def query_int(request: Request, name: str, low: int, high: int, default: int | None = None) -> int | None:
    """A number from the query, moved into its bounds; InvalidInput when it is not a number."""
    text = request.query_params.get(name)
    if text is None:
        return default
    try:
        return max(low, min(int(text), high))
    except ValueError as exc:
        raise InvalidInput(f"{name}: `{text[:40]}` is not a whole number of milliseconds") from exc


async def disconnected(request: Request) -> None:
    """Return once the client has gone; only for a request whose body has been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """What the work returns; it is cancelled when the client leaves first.

    Raises:
        ClientDisconnect: when it did.
    """
    working = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(disconnected(request))
    events: set[asyncio.Future[Any]] = {working, gone}
    try:
        await asyncio.wait(events, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        working.cancel()
        gone.cancel()
