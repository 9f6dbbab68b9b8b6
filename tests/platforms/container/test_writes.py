"""The server's protocol: what an application sends arrives whole and in order, the head with what follows it."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, cast

import pytest
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from platforms.container.writes import MOST_HELD, Protocol

END = b"\r\n\r\n"
Answer = list[bytes]


def application(answers: dict[str, Answer]) -> ASGIApp:
    """Sends each part of the path's answer, never waiting in between; with its length where the path says so."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        parts = answers[scope["path"]]
        length = [(b"content-length", b"%d" % sum(map(len, parts)))] if "long" in scope["path"] else []
        await send({"type": "http.response.start", "status": 200, "headers": length})
        for part in parts:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    return app


class Recorded:
    """A transport that keeps what is written to it."""

    def __init__(self, transport: asyncio.Transport, written: Answer) -> None:
        self._transport = transport
        self._written = written

    def write(self, data: bytes) -> None:
        self._written.append(data)
        self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class Recording(Protocol):
    """The protocol over such transports."""

    written: ClassVar[Answer] = []

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(cast("asyncio.Transport", Recorded(transport, self.written)))


@contextmanager
def served(answers: dict[str, Answer]) -> Iterator[int]:
    """The port of a server of these answers."""
    config = uvicorn.Config(
        application(answers), http=Recording, log_config=None, lifespan="off", timeout_keep_alive=60
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(10)


def ask(connection: socket.socket, path: str, *headers: str) -> None:
    lines = [f"GET {path} HTTP/1.1", "Host: here", *headers]
    connection.sendall("\r\n".join(lines).encode() + END)


def whole(connection: socket.socket) -> bytes:
    """All until the server hangs up."""
    return b"".join(iter(lambda: connection.recv(1 << 20), b""))


SMALL, LARGE = [b"one", b"two"], [b"a" * 10, b"b" * (3 * MOST_HELD), b"c" * 5, b"d" * (MOST_HELD - 1)]


ANSWERS = {"/long": SMALL, "/long/large": LARGE, "/long/none": [], "/chunks": SMALL, "/chunks/large": LARGE}


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with served(ANSWERS) as port:
        yield port


@pytest.mark.parametrize(("path", "body"), [("/long", SMALL), ("/long/large", LARGE), ("/long/none", [])])
def test_what_is_sent_in_parts_arrives_whole_before_the_connection_ends(port: int, path: str, body: Answer) -> None:
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        ask(connection, path, "Connection: close")
        head, _, rest = whole(connection).partition(END)
    assert head.startswith(b"HTTP/1.1 200")
    assert rest == b"".join(body)


@pytest.mark.parametrize(("path", "body"), [("/chunks", SMALL), ("/chunks/large", LARGE)])
def test_chunks_keep_their_order(port: int, path: str, body: Answer) -> None:
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        ask(connection, path, "Connection: close")
        rest = whole(connection).partition(END)[2]
    assert rest == b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in body) + b"0" + END


def test_a_small_answer_leaves_in_one_write_with_its_head(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        Recording.written.clear()
        ask(connection, "/long", "Connection: close")
        answer = whole(connection)
    assert Recording.written == [answer]
    assert answer.endswith(END + b"onetwo")


def test_requests_that_come_at_once_are_answered_in_turn(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        for path in ("/long", "/long/large", "/long"):
            ask(connection, path)
        ask(connection, "/long", "Connection: close")
        answers = whole(connection)
    assert answers.count(b"HTTP/1.1 200") == 4
    assert answers.count(b"".join(LARGE)) == 1
    assert answers.endswith(b"onetwo")
