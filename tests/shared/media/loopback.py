"""A small HTTP server on 127.0.0.1 whose routes are functions; it keeps what it was sent."""

import contextlib
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Route = Callable[[BaseHTTPRequestHandler], None]


@dataclass(frozen=True)
class Seen:
    """One request as it arrived."""

    method: str
    path: str
    query: str
    headers: Message
    body: bytes


class Loopback(ThreadingHTTPServer):
    """Answers 404 where it has no route."""

    daemon_threads = True

    def __init__(self, routes: Mapping[str, Route]) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.routes = dict(routes)
        self.seen: list[Seen] = []

    @property
    def port(self) -> int:
        return self.server_address[1]

    @property
    def netloc(self) -> str:
        return f"127.0.0.1:{self.port}"

    def url(self, path: str, scheme: str = "http") -> str:
        return f"{scheme}://{self.netloc}{path}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are what the tests are about."""


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Loopback

    def _any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path, _, query = self.path.partition("?")
        self.server.seen.append(Seen(self.command, path, query, self.headers, body))
        self.close_connection = True
        with contextlib.suppress(ConnectionError):
            self.server.routes.get(path, reply(404))(self)

    do_HEAD = do_GET = do_PUT = do_POST = _any  # noqa: N815 - the names are http.server's

    def log_message(self, *args: Any) -> None:
        """Nothing to the console."""


@contextmanager
def loopback(routes: Mapping[str, Route], tls: ssl.SSLContext | None = None) -> Iterator[Loopback]:
    """A server for the length of a `with`."""
    with Loopback(routes) as server:
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def reply(status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Route:
    """A whole answer."""

    def route(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(body)

    return route


def redirect(location: str, status: int = 302) -> Route:
    """An answer that points elsewhere."""
    return reply(status, headers={"Location": location})


def in_turn(*routes: Route) -> Route:
    """One route after the other, the last one for ever."""
    left = list(routes)
    return lambda request: (left.pop(0) if len(left) > 1 else left[0])(request)


def endless(request: BaseHTTPRequestHandler) -> None:
    """A body without length that goes on until the client hangs up."""
    request.send_response(200)
    request.end_headers()
    while True:
        request.wfile.write(b"x" * 65536)


def drip_body(request: BaseHTTPRequestHandler) -> None:
    """A byte now and then: each read succeeds, the whole never ends."""
    request.send_response(200)
    request.send_header("Content-Length", "90000")
    request.end_headers()
    _drip(request)


def drip_body_of_no_length(request: BaseHTTPRequestHandler) -> None:
    """As `drip_body`, but where the connection's end would be the body's end."""
    request.send_response(200)
    request.end_headers()
    _drip(request)


def drip_headers(request: BaseHTTPRequestHandler) -> None:
    """A header that never ends."""
    request.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
    _drip(request)


def _drip(request: BaseHTTPRequestHandler) -> None:
    never = threading.Event()
    while not never.wait(0.01):
        request.wfile.write(b"x")
        request.wfile.flush()


def cut_short(request: BaseHTTPRequestHandler) -> None:
    """Fewer bytes than announced."""
    request.send_response(200)
    request.send_header("Content-Length", "100")
    request.end_headers()
    request.wfile.write(b"half")


def hang_up(request: BaseHTTPRequestHandler) -> None:
    """No answer at all."""
