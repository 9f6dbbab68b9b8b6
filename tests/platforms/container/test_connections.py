"""Clients that do not go on, that leave, and that speak no HTTP, over plain sockets."""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.platforms.container.box import Box, until_written
from tests.platforms.harness import until

CONNECTIONS = "platforms.container.connections"
POST = b"POST /sleep HTTP/1.1\r\nHost: x\r\n"
LARGE = {"stream": False, "pieces": ["x" * 1_000_000], "times": 12}  # more than a connection holds unread


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("platforms.container.server.LOOK_EVERY_S", 0.02)
        with Box(tmp_path_factory.mktemp("box")) as served:
            yield served


def request(body: object, path: str = "/sleep", more: bytes = b"") -> bytes:
    sent = json.dumps(body).encode()
    return b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n%b\r\n%b" % (path.encode(), len(sent), more, sent)


@contextmanager
def connected(box: Box, first: bytes = b"") -> Iterator[socket.socket]:
    """A connection with small buffers, over which something was sent."""
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(20)
        connection.connect(("127.0.0.1", box.server.port))
        connection.sendall(first)
        yield connection


def heard(connection: socket.socket) -> bytes:
    """All that comes until the container closes the connection."""
    return b"".join(iter(lambda: connection.recv(65_536), b""))


def trickle(connection: socket.socket, byte: bytes = b"y") -> bytes:
    """Send one byte after the other until there is an answer or an end; returns what came."""
    connection.settimeout(0.01)
    while True:
        try:
            connection.sendall(byte)
            return connection.recv(65_536)
        except TimeoutError:
            continue
        except ConnectionError:
            return b""


def open_connections(box: Box) -> int:
    return len(box.server.connections())


def until_let_go(box: Box) -> None:
    """Nothing is held for anybody but the connection that the test's own calls use."""
    until(lambda: not box.server.performer.is_busy() and open_connections(box) <= 1)


def test_a_client_that_says_nothing_is_let_go_without_a_word(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{CONNECTIONS}.HEAD_S", 0.1)
    with connected(box) as connection:
        assert heard(connection) == b""


@pytest.mark.parametrize("before", [b"", b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n"], ids=["first", "second"])
def test_headers_that_trickle_are_not_waited_for(box: Box, monkeypatch: pytest.MonkeyPatch, before: bytes) -> None:
    with connected(box, before) as connection:
        if before:
            assert connection.recv(65_536).startswith(b"HTTP/1.1 200")
        connection.sendall(POST + b"X-A: ")
        until(lambda: any(each.is_asking() for each in box.server.connections()))
        monkeypatch.setattr(f"{CONNECTIONS}.HEAD_S", 0.1)
        answer = trickle(connection)
    assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["detail"]["code"] == "request_timeout"


@pytest.mark.parametrize("head", [b"Content-Length: 9000000\r\n\r\n{", b"Transfer-Encoding: chunked\r\n\r\n9;"])
def test_a_body_that_trickles_is_not_waited_for(box: Box, monkeypatch: pytest.MonkeyPatch, head: bytes) -> None:
    """Each byte is progress, and together they are too slow; what stands for no body is no progress at all."""
    monkeypatch.setattr("shared.jobs.wire.STALLED_S", 0.1)
    with connected(box, POST + head) as connection:
        answer = trickle(connection)
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"connection: close" in answer
    assert b'"request_timeout"' in answer
    until_let_go(box)


def test_the_rest_of_a_body_that_was_answered_before_its_end_is_not_read_for_ever(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{CONNECTIONS}.ANSWERED_S", 0.1)
    with connected(box, b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n\r\n{") as connection:
        assert connection.recv(65_536).startswith(b"HTTP/1.1 404")
        assert trickle(connection) == b""


@pytest.mark.parametrize(
    ("head", "flood"),
    [
        (POST, b"X-A: %b\r\n" % (b"y" * 1000)),
        (b"POST /nowhere HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"X: y\r\n"),
    ],
    ids=["headers", "trailers"],
)
def test_headers_are_read_up_to_a_length(box: Box, head: bytes, flood: bytes) -> None:
    with connected(box, head) as connection, pytest.raises(ConnectionError):
        for _ in range(100_000):
            connection.sendall(flood * 100)


def test_headers_that_are_too_long_are_told_so(box: Box) -> None:
    with connected(box, POST + b"X-A: " + b"y" * 70_000) as connection:
        assert connection.recv(65_536).startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize(
    "raw",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # a client that speaks TLS
        POST + b"Content-Length: 9\r\nContent-Length: 8\r\n\r\n{}",
        POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        POST + b"Content-Length: -2\r\n\r\n{}",
        POST + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n{",
        POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}no end of it",
    ],
)
def test_what_is_no_request_is_told_so_and_holds_nothing(box: Box, raw: bytes) -> None:
    with connected(box, raw) as connection:
        head, _, body = heard(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert json.loads(body)["detail"]["code"] == "invalid_input"
    until_let_go(box)


def test_another_protocol_is_not_taken_up(box: Box) -> None:
    upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw==\r\n"
    with connected(
        box, b"GET /health HTTP/1.1\r\nHost: x\r\n%bSec-WebSocket-Version: 13\r\n\r\n" % upgrade
    ) as connection:
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200")


def test_a_body_is_asked_for_where_its_client_waits_for_that(box: Box) -> None:
    with connected(box, POST + b"Expect: 100-continue\r\nContent-Length: 9\r\n\r\n") as connection:
        assert connection.recv(65_536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b'{"ms": 0}')
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200")


def test_requests_on_one_connection_are_answered_in_order(box: Box) -> None:
    last = request({"ms": 0}, more=b"Connection: close\r\n")
    with connected(box, request({"ms": 0}) + request({"ms": -1}) + last) as connection:
        answers = heard(connection).split(b"HTTP/1.1 ")[1:]
    assert [answer[:3] for answer in answers] == [b"200", b"422", b"200"]


def test_who_leaves_with_requests_behind_the_first_one_is_noticed(box: Box, tmp_path: Path) -> None:
    """Nothing is read of such a connection: its end is not heard, its job would go on, and the next one begin."""
    diary = tmp_path / "diary"
    long = request({"ms": 60_000, "steps": 6000, "name": "a", "diary": str(diary)})
    with connected(box, long) as connection:
        until_written(diary, "a start")
        connection.sendall(long)
        until(lambda: any(each.pipeline for each in box.server.connections()))
        connection.sendall(long)
    until_written(diary, "a end")
    until_let_go(box)
    assert diary.read_text().count("start") == 1


@pytest.mark.parametrize("more", [{}, {"stream": True}], ids=["whole", "streamed"])
def test_an_answer_that_nobody_reads_is_not_kept(
    box: Box, monkeypatch: pytest.MonkeyPatch, more: dict[str, bool]
) -> None:
    monkeypatch.setattr(f"{CONNECTIONS}.UNREAD_S", 0.1)
    with connected(box, request({**LARGE, **more}, "/tell")):
        until(lambda: any(each.is_unread() for each in box.server.connections()))
        assert box.post("/sleep", {"ms": 0}).status_code == 200  # others go on
        until_let_go(box)


def test_an_answer_that_is_read_slowly_is_read_to_its_end(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{CONNECTIONS}.UNREAD_S", 0.5)
    with connected(box, request(LARGE, "/tell", b"Connection: close\r\n")) as connection:
        until(lambda: any(each.is_unread() for each in box.server.connections()))
        (slow,) = [each for each in box.server.connections() if each.is_unread()]
        read, begun_at = b"", slow.read_at
        while slow.read_at < begun_at + 0.7:
            seen_at = slow.read_at
            read += connection.recv(16_384)
            until(lambda: slow.read_at > seen_at)  # noqa: B023 called at once
        read += heard(connection)
    head, _, body = read.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert len(json.loads(body)["text"]) == 12_000_000


def test_the_system_asks_whether_a_silent_client_is_still_there(box: Box) -> None:
    with connected(box, POST):
        until(lambda: open_connections(box))
        (found, *_) = [each.transport.get_extra_info("socket") for each in box.server.connections()]
        assert found.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


def test_a_container_that_stops_waits_for_an_answer_to_be_read(tmp_path: Path) -> None:
    """A file, which is on its way in one piece: the request is over, and the answer is not there."""
    asked = request({"side": 1300}, "/noise", b"Accept: image/png\r\nConnection: close\r\n")
    with Box(tmp_path) as box, connected(box, asked) as connection:
        until(lambda: any(each.is_unread() for each in box.server.connections()))
        box.server._server.config.timeout_graceful_shutdown = 0  # uvicorn's own patience
        box.stop()
        assert box.goes_on(0.5)
        head, _, body = heard(connection).partition(b"\r\n\r\n")
        assert f"content-length: {len(body)}".encode() in head
        assert box.ended() == 0


def test_but_no_longer_than_it_may(tmp_path: Path) -> None:
    """A reader that is stuck, and a body that trickles."""
    half = POST + b"Content-Length: 9000000\r\n\r\n{"
    with Box(tmp_path, drain_s=0.05) as box, connected(box, request(LARGE, "/tell")), connected(box, half):
        until(lambda: any(each.is_unread() for each in box.server.connections()))
        box.stop()
        assert (box.ended(), box.server.is_stuck) == (0, False)
