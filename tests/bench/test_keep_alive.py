"""The bench's HTTP client, against answers in pieces of every size."""

import socket
import threading
from collections.abc import Iterator

import pytest

from bench.keep_alive import Connection, request

LONG = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\nX: 1\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
ASKED = request("/nothing", {"prompt": "x"}, "application/json")


class Peer:
    """Answers every request with the same bytes, so many at a time."""

    def __init__(self, answer: bytes, step: int) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._parts = [answer[n : n + step] for n in range(0, len(answer), step)]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        connection, _ = self._listening.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection:
            while connection.recv(65536):
                for part in self._parts:
                    connection.sendall(part)

    def close(self) -> None:
        self._thread.join(20)
        self._listening.close()


@pytest.fixture
def peer(given: bytes, step: int) -> Iterator[Peer]:
    peer = Peer(given, step)
    yield peer
    peer.close()


@pytest.mark.parametrize("step", [1, 7, 1000])
@pytest.mark.parametrize(("given", "body"), [(LONG, b"hello"), (CHUNKED, b"5\r\nhello\r\n0\r\n\r\n")])
def test_an_answer_is_read_to_its_end_and_the_next_one_is_asked_on_the_same_connection(
    peer: Peer, body: bytes
) -> None:
    with Connection(peer.port, ASKED) as connection:
        assert [connection.ask(), connection.ask()] == [body, body]


@pytest.mark.parametrize(("given", "step"), [(b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n", 1000)])
def test_an_answer_that_is_not_200_is_no_figure(peer: Peer) -> None:
    with Connection(peer.port, ASKED) as connection, pytest.raises(ConnectionError, match="not 200"):
        connection.ask()
