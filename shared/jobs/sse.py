"""Text as server-sent events while it is written."""

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from fastapi import Request, Response
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from shared.errors import ENDINGS, Ending
from shared.job import Piece
from shared.jobs.performer import OnPiece, Performance
from shared.jobs.pieces import Pieces
from shared.jobs.wire import disconnected

HOLD_S = 10.0  # until then the status is open: a job that fails before its first piece is answered by its error's
BEAT_S = 10.0  # between two comments, which keep a silent connection alive
DONE = "data: [DONE]\n\n"
_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]
_quoted = json.encoder.encode_basestring  # a piece as JSON, without the 2 us that `dumps` takes to begin


class Events(Protocol):
    """How an API writes its events; each with the empty line that ends it.

    `comments` says whether its clients pass over comments, which keep a silent connection alive.
    """

    @property
    def comments(self) -> bool: ...

    def piece(self, piece: Piece) -> str:
        """A piece of text; called on the device's thread."""

    def closing(self, result: Mapping[str, Any]) -> str:
        """What follows the text."""

    def error(self, ending: Ending) -> str:
        """What follows it where the job failed."""


class TextEvents:
    """Ours: `{"text"}` for each piece, then `{"usage", "finish_reason", "metrics", "receipt"}`."""

    comments = True

    def piece(self, piece: Piece) -> str:
        """See Events."""
        return f'data: {{"text":{_quoted(str(piece.value))}}}\n\n'

    def closing(self, result: Mapping[str, Any]) -> str:
        """See Events."""
        return event({name: value for name, value in result.items() if name != "text"})

    def error(self, ending: Ending) -> str:
        """See Events."""
        return event({"detail": ending.as_dict()})


def event(body: Mapping[str, Any]) -> str:
    """One event."""
    return f"data: {json.dumps(body, ensure_ascii=False, separators=(',', ':'))}\n\n"


async def streamed(request: Request, start: Callable[[OnPiece], Performance], events: Events) -> Response:
    """Start a job, and answer with its events once the first one is there.

    Raises:
        JobError, Stopped: it ended before its first piece.
        ClientDisconnect: nobody listens any more.
    """
    pieces = Pieces(events.piece)
    performance = start(pieces.push)
    performance.ended.add_done_callback(lambda _: pieces.end())
    first = asyncio.ensure_future(pieces.next())
    gone = asyncio.ensure_future(disconnected(request))
    either: set[asyncio.Future[Any]] = {first, gone}
    try:
        await asyncio.wait(either, timeout=HOLD_S, return_when=asyncio.FIRST_COMPLETED)
        if gone.done():
            raise ClientDisconnect
        if first.done() and not first.result():
            performance.ended.result()
        answer = EventStream(performance, pieces, first, events)
    except BaseException:
        first.cancel()
        performance.stop("the client hung up")
        raise
    finally:
        gone.cancel()
    return answer


class EventStream(Response):
    """Sends what has gathered since the last send; stops the job when its client leaves."""

    def __init__(
        self, performance: Performance, pieces: Pieces, first: "asyncio.Future[str]", events: Events
    ) -> None:
        self.status_code = 200
        self.background = None
        self._performance = performance
        self._pieces = pieces
        self._first = first
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See starlette's Response."""
        watch = asyncio.ensure_future(self._stop_when_gone(receive))
        beat = asyncio.ensure_future(self._beat())
        try:
            headers = [*_HEADERS, (b"x-job-id", self._performance.job_id.encode())]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            text = await self._first
            while text:
                await send({"type": "http.response.body", "body": text.encode(errors="replace"), "more_body": True})
                text = await self._pieces.next()
            await send({"type": "http.response.body", "body": self._end().encode(errors="replace")})
        finally:
            watch.cancel()
            beat.cancel()
            self._performance.stop("the client hung up")

    def _end(self) -> str:
        try:
            return self._events.closing(self._performance.ended.result()) + DONE
        except ENDINGS as ending:
            return self._events.error(ending)

    async def _stop_when_gone(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._performance.stop("the client hung up")

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            if self._events.comments:
                self._pieces.push_text(": waiting\n\n")
