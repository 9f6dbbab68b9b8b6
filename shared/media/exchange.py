"""One HTTP request to an address that was checked, cut off at a deadline."""

import contextlib
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from urllib3.connection import HTTPConnection
from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse

from shared.media.addresses import Url

Dial = Callable[[tuple[str, int], float], socket.socket]

NETWORK_ERRORS = (OSError, HTTPError, http.client.HTTPException)
"""What an exchange raises, besides what its body raises."""


class Deadline:
    """A point in time, `seconds` from now."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds until then; 0 once it has passed."""
        return max(0.0, self._end - time.monotonic())

    @contextmanager
    def cuts(self, sock: socket.socket) -> Iterator[None]:
        """Shut a connection when the time is up, whatever it is doing.

        A socket's own timeout starts anew with each byte; a peer that drips handshake, headers or body outlives it.
        """
        handle = sock.dup()  # wrapping in TLS takes the first one away
        timer = threading.Timer(self.left(), _shut, (handle,))
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()
            handle.close()


def _shut(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it ended by itself
        sock.shutdown(socket.SHUT_RDWR)


def dial(address: tuple[str, int], timeout_s: float) -> socket.socket:
    """A TCP connection to an IP address."""
    return socket.create_connection(address, timeout=timeout_s)


def _dial_first(addresses: list[str], port: int, deadline: Deadline, dial: Dial) -> socket.socket:
    """Try each address, each with its share of the time left."""
    for i, address in enumerate(addresses):
        try:
            share = deadline.left() / (len(addresses) - i)
            return dial((address, port), max(share, 0.001))  # 0 would mean not to wait at all
        except OSError as exc:
            last = exc
    raise last


@contextmanager
def exchange(
    method: str,
    url: Url,
    addresses: list[str],
    deadline: Deadline,
    *,
    body: bytes | None = None,
    headers: Mapping[str, str],
    tls: Callable[[], ssl.SSLContext],
    dial: Dial,
) -> Iterator[BaseHTTPResponse]:
    """Send one request and yield the answer, its body unread and undecoded; no redirects, proxies or retries.

    The connection goes to one of `addresses`; the Host header, SNI and the certificate's check keep the URL's name.
    """
    with contextlib.ExitStack() as stack:
        sock = stack.enter_context(_dial_first(addresses, url.port, deadline, dial))
        stack.enter_context(deadline.cuts(sock))
        sock.settimeout(deadline.left() or 0.001)
        if url.scheme == "https":
            sock = stack.enter_context(tls().wrap_socket(sock, server_hostname=url.host))
        connection = HTTPConnection(url.host, url.port, timeout=deadline.left() or 0.001)
        connection.sock = sock
        stack.callback(connection.close)
        sent = {**headers, "Host": url.netloc, "Accept-Encoding": "identity", "Connection": "close"}
        connection.request(method, url.path, body, sent, preload_content=False, decode_content=False)
        response = connection.getresponse()
        stack.callback(response.close)
        yield response
