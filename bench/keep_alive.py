"""An HTTP client that measures servers and is not what is measured: prepared bytes, kept connections, no parsing."""

import gc
import json
import selectors
import socket
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.bare_server import HOST

LARGEST = 8 * 2**20  # bytes of an answer
LARGEST_HEAD = 32_768  # of them
WARM_UP = 30  # requests of each connection that are not counted
TICKS_A_SECOND = 100  # of the CPU times in /proc, on all of Linux's platforms


@dataclass(frozen=True)
class Load:
    """What a server did: requests a second, seconds of each request, sorted, of its CPU, and bytes of an answer."""

    rate: float
    seconds: list[float]
    cpu_s: float
    size: int

    @property
    def p50(self) -> float:
        """Half of the requests took no longer, in seconds."""
        return self.seconds[len(self.seconds) // 2]

    @property
    def p99(self) -> float:
        """99 of 100 took no longer."""
        return self.seconds[len(self.seconds) * 99 // 100]


class Connection:
    """One request, asked again and again."""

    def __init__(self, port: int, request: bytes) -> None:
        self.socket = socket.create_connection((HOST, port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.begun = 0.0
        self.seconds: list[float] = []
        self._request = request
        self._answer = memoryview(bytearray(LARGEST))
        self._have = 0
        self._whole = 0  # bytes, once the headers have told; -1 for an answer in chunks

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *exc: object) -> None:
        self.socket.close()

    @property
    def answer(self) -> bytes:
        """What came last, headers first."""
        return bytes(self._answer[: self._have])

    def send(self) -> None:
        """Ask."""
        self._have = self._whole = 0
        self.begun = time.perf_counter()
        self.socket.sendall(self._request)

    def receive(self) -> bool:
        """Read what is there; whether that is the end of the answer."""
        read = self.socket.recv_into(self._answer[self._have :])
        self._have += read
        if not read:
            raise ConnectionError(f"the server hung up: {self.answer[:1000]!r}")
        if not self._whole:
            self._whole = _length(bytes(self._answer[: min(self._have, LARGEST_HEAD)]))
        if self._whole < 0:
            return bytes(self._answer[self._have - 7 : self._have]) == b"\r\n0\r\n\r\n"
        return 0 < self._whole <= self._have

    def ask(self) -> bytes:
        """One answer, without its headers."""
        self.send()
        while not self.receive():
            pass
        return self.answer.partition(b"\r\n\r\n")[2]


def _length(answer: bytes) -> int:
    """How long an answer with its headers will be; -1 where it comes in chunks, 0 where the headers are not whole."""
    head, end, _ = answer.partition(b"\r\n\r\n")
    if not end:
        return 0
    head = head.lower()
    if not head.startswith(b"http/1.1 200"):
        raise ConnectionError(f"not 200: {answer[:1000]!r}")
    if b"\r\ntransfer-encoding: chunked" in head:
        return -1
    length = head.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0]
    return len(head) + len(end) + int(length)


def request(path: str, body: Mapping[str, Any], accept: str) -> bytes:
    """A POST."""
    data = json.dumps(body).encode()
    headers = f"Host: {HOST}\r\nAccept: {accept}\r\nContent-Type: application/json\r\nContent-Length: {len(data)}"
    return f"POST {path} HTTP/1.1\r\n{headers}\r\n\r\n".encode() + data


def load(port: int, pid: int, asked: bytes, *, connections: int, seconds: float) -> Load:
    """Ask on so many connections at once, each as soon as its answer is there; new ones, warmed up first."""
    with ExitStack() as stack:
        opened = [stack.enter_context(Connection(port, asked)) for _ in range(connections)]
        for connection in opened:
            for _ in range(WARM_UP):
                size = len(connection.ask())
        gc.disable()
        try:
            cpu_s, begun = _cpu_s(pid), time.perf_counter()
            taken = _closed_loop(opened, begun + seconds)
            return Load(len(taken) / (time.perf_counter() - begun), sorted(taken), _cpu_s(pid) - cpu_s, size)
        finally:
            gc.enable()


def _closed_loop(connections: list[Connection], until: float) -> list[float]:
    if len(connections) == 1:
        return _one_by_one(connections[0], until)
    taken: list[float] = []
    with selectors.DefaultSelector() as selector:
        for connection in connections:
            selector.register(connection.socket, selectors.EVENT_READ, connection)
            connection.send()
        left = len(connections)
        while left:
            for key, _ in selector.select():
                connection = key.data
                if not connection.receive():
                    continue
                now = time.perf_counter()
                taken.append(now - connection.begun)
                if now < until:
                    connection.send()
                else:
                    left -= 1
    return taken


def _one_by_one(connection: Connection, until: float) -> list[float]:
    taken = []
    while (now := time.perf_counter()) < until:
        connection.send()
        while not connection.receive():
            pass
        taken.append(time.perf_counter() - now)
    return taken


def _cpu_s(pid: int) -> float:
    """Seconds of CPU that a process has taken: proc(5)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_A_SECOND
