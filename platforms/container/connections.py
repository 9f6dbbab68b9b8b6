"""Connections to the container, which end where their client neither asks nor reads."""

import asyncio
import contextlib
import fcntl
import json
import select
import socket
import sys
import termios
from typing import Any

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from platforms.container.writes import Protocol
from shared.errors import InvalidInput, JobError, RequestTimeout

HEAD_S = 20.0  # for a request line with its headers to come; also the first one, of a client that says nothing
MOST_HEAD = 65_536  # bytes of them
ANSWERED_S = 600.0  # for the rest of a body to come that was answered before its end
UNREAD_S = 60.0  # for which an answer waits for its client to read on
KEEP_ALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}  # seconds, seconds, times


def ask_who_is_there(listening: socket.socket) -> None:
    """Have the system notice within a minute that a client's machine is gone: its job would go on for nobody."""
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sys.platform == "linux":
        for name, value in KEEP_ALIVE.items():
            listening.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


class Connection(Protocol):
    """uvicorn's, which waits for ever for headers and for readers, and takes headers of any length."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See asyncio.Protocol."""
        super().connection_made(transport)
        self._before_request = 0  # bytes
        self._asking_since: float | None = None
        self._unread = 0
        self.read_at = self.loop.time()
        self._worked_on: RequestResponseCycle | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol; uvicorn tells the request that came last, behind which others may be worked on."""
        super().connection_lost(exc)
        if self._worked_on:
            self._worked_on.disconnected = True
            self._worked_on.message_event.set()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._worked_on = cycle
        super()._start_asgi_task(cycle, app)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        self._before_request += len(data)
        super().data_received(data)
        if self._before_request > MOST_HEAD:
            self._refuse(
                b"431 Request Header Fields Too Large", InvalidInput(f"headers: more than {MOST_HEAD} bytes")
            )

    def on_headers_complete(self) -> None:
        """See httptools."""
        self._before_request = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """See httptools."""
        self._before_request = 0
        super().on_body(body)

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP."""
        what = InvalidInput("this is no HTTP/1.1 request, or one whose length is not clear")
        self._refuse(b"400 Bad Request", what)

    def _unsupported_upgrade_warning(self) -> None:
        """Say nothing: a client may offer another protocol, and is answered in this one."""

    def look(self, now: float) -> None:
        """Let a client go that keeps the connection and does not go on; to be called now and then, with the time."""
        if now - self._last_read(now) > UNREAD_S or (self.pipeline and _has_left(self.transport)):
            self.transport.abort()
        elif not self.is_asking():
            self._asking_since = None
        elif self._asking_since is None:
            self._asking_since = now
        elif now - self._asking_since > (ANSWERED_S if self.cycle and self.cycle.more_body else HEAD_S):
            self._give_up()

    def is_unread(self) -> bool:
        """Whether some of an answer waits for its client to read on."""
        return self.transport.get_write_buffer_size() > 0

    def drop(self) -> None:
        """End it where an answer waits for its reader, or a request for the rest of it."""
        if self.is_unread() or (self._is_answering() and self.cycle.more_body):
            self.transport.abort()

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def is_asking(self) -> bool:
        """Whether headers are to come, or the rest of a body; a client that may ask again has a limit of its own."""
        return not (self._is_answering() or self.timeout_keep_alive_task or self.transport.is_closing())

    def _last_read(self, now: float) -> float:
        """When the client was last seen to read, of what it was sent."""
        unread = self.transport.get_write_buffer_size() + _unacknowledged(self.transport)
        if unread != self._unread or not unread:
            self._unread, self.read_at = unread, now
        return self.read_at

    def _give_up(self) -> None:
        if self._before_request:
            self._refuse(b"408 Request Timeout", RequestTimeout(f"no whole request came for {HEAD_S:g} s"))
        else:
            self.transport.close()  # it was opened ahead, as browsers do, or has had its answer

    def _refuse(self, status: bytes, error: JobError) -> None:
        """Answer what is no request, and close; in the middle of another one's answer there is only the closing."""
        if self.transport.is_closing():
            return
        if self.pipeline or (self._is_answering() and self.cycle.response_started):
            self.transport.abort()
            return
        body = json.dumps({"detail": error.as_dict()}).encode()
        self.transport.write(
            b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
            % (status, len(body), body)
        )
        self.transport.close()


def _unacknowledged(transport: asyncio.Transport) -> int:
    """Bytes that the system has taken and the client has not; 0 where the system does not tell."""
    if sys.platform != "linux":
        return 0
    told = bytearray(4)
    with contextlib.suppress(OSError, ValueError):  # it was closed just now, and nobody has been told yet
        fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, told)
    return int.from_bytes(told, sys.byteorder)


def _has_left(transport: asyncio.Transport) -> bool:
    """Whether the client has closed a connection of which nothing is read for now, so that nobody hears of it."""
    if sys.platform != "linux":
        return False
    asked = select.poll()
    asked.register(transport.get_extra_info("socket").fileno(), select.POLLRDHUP)
    return bool(asked.poll(0))
