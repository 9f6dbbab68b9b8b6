"""Sends an answer's head together with what follows it, where uvicorn sends them one after the other."""

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST_HELD = 65_536  # bytes


class Together:
    """A transport that holds what is written until the loop's next turn, or until it is much.

    A head that leaves alone costs a system call more, and wakes a client for half an answer.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held: list[bytes] = []
        self._size = 0

    def write(self, data: bytes) -> None:
        """See asyncio.WriteTransport."""
        if not self._held:
            self._loop.call_soon(self._let_go)
        self._held.append(data)
        self._size += len(data)
        if self._size > MOST_HELD:
            self._let_go()

    def close(self) -> None:
        """See asyncio.BaseTransport."""
        self._let_go()
        self._transport.close()

    def _let_go(self) -> None:
        if not self._held:
            return
        held, is_much = self._held, self._size > MOST_HELD
        self._held, self._size = [], 0
        if self._transport.is_closing():  # the client has left meanwhile
            return
        if is_much:
            self._transport.writelines(held)
        else:
            self._transport.write(b"".join(held))

    def __getattr__(self, name: str) -> Any:
        """All else is the transport's."""
        return getattr(self._transport, name)


class Protocol(HttpToolsProtocol):
    """uvicorn's, over such a transport."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See asyncio.Protocol."""
        super().connection_made(cast("asyncio.Transport", Together(transport, self.loop)))
