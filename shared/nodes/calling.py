"""One HTTP request to a node of the operator's, which can be cut off from any thread."""

import contextlib
import functools
import json
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urljoin

import certifi
from urllib3.response import BaseHTTPResponse

from shared.errors import InvalidInput
from shared.media.addresses import Url, resolve, split_url
from shared.media.exchange import NETWORK_ERRORS, Deadline, dial, exchange
from shared.nodes.node import Address

JSON = "application/json"
CONNECT_S = 5.0
MAX_REDIRECTS = 5  # Modal redirects a request of more than 150 s to itself, again and again
MAX_JSON_BYTES = 2 * 2**30
BLOCK_BYTES = 64 * 1024
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_KEEPS_METHOD = frozenset({307, 308})
_KEEPALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}  # seconds, seconds, probes


class Unheard(Exception):
    """The node did not answer, or broke off; the message names the kind of error, and no address."""


class Grip:
    """Holds on to the connections of one call, to end it from another thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._handles: list[socket.socket] = []
        self._is_cut = False

    def __enter__(self) -> "Grip":
        return self

    def __exit__(self, *_exc: object) -> None:
        with self._lock:
            for handle in self._handles:
                handle.close()
            self._handles.clear()

    def dial(self, address: tuple[str, int], timeout_s: float) -> socket.socket:
        """A connection that is held, and on which a host that is gone is noticed within half a minute."""
        sock = dial(address, min(timeout_s, CONNECT_S))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE.items():
            if option := getattr(socket, name, None):  # not on every system
                sock.setsockopt(socket.IPPROTO_TCP, option, value)
        with self._lock:
            self._handles.append(sock.dup())  # wrapping in TLS takes the first one away
        if self._is_cut:
            self.cut()
        return sock

    def cut(self) -> None:
        """End the call: who waits for its answer gets an error at once. For ever: a redirect is cut as well."""
        with self._lock:
            self._is_cut = True
            for handle in self._handles:
                with contextlib.suppress(OSError):  # it ended by itself
                    handle.shutdown(socket.SHUT_RDWR)


@contextmanager
def call(
    method: str,
    address: Address,
    path: str,
    *,
    grip: Grip,
    deadline: Deadline,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> Iterator[BaseHTTPResponse]:
    """The node's answer, its body unread; redirects are followed, but the token goes to the node's own host only.

    Raises:
        Unheard: it did not answer; also while its body is read.
    """
    here = home = split_url(address.url + path)
    headers = {**(headers or {}), "Accept": JSON, **({"Content-Type": JSON} if body is not None else {})}
    for _ in range(MAX_REDIRECTS + 1):
        is_home = (here.scheme, here.host, here.port) == (home.scheme, home.host, home.port)
        sent = {**headers, **_authorization(address if is_home else None)}
        with _exchange(method, here, body, sent, grip, deadline) as response:
            location = response.headers.get("location")
            if response.status not in _REDIRECTS or not location:
                yield response
                return
            if response.status not in _KEEPS_METHOD:
                method, body = "GET", None
            here = _next_hop(here, location)
    raise Unheard(f"more than {MAX_REDIRECTS} redirects")


@contextmanager
def _exchange(
    method: str, url: Url, body: bytes | None, headers: Mapping[str, str], grip: Grip, deadline: Deadline
) -> Iterator[BaseHTTPResponse]:
    try:
        addresses = resolve(url.host, url.port)
        with exchange(
            method, url, addresses, deadline, body=body, headers=headers, tls=_tls, dial=grip.dial
        ) as response:
            yield response
            is_late = not deadline.left()  # a cut connection can look like the end of the body
    except (*NETWORK_ERRORS, UnicodeError) as exc:  # the last one of a name that is no host's
        raise Unheard("timeout" if not deadline.left() else type(exc).__name__) from exc
    if is_late:
        raise Unheard("timeout")


def _next_hop(here: Url, location: str) -> Url:
    try:
        return split_url(urljoin(str(here), location))
    except (InvalidInput, ValueError) as exc:
        raise Unheard("a redirect to no URL") from exc


def read_body(response: BaseHTTPResponse) -> bytes:
    """The whole body.

    Raises:
        Unheard: it is longer than anything that a node should answer.
    """
    body = bytearray()
    while block := response.read(BLOCK_BYTES):
        body += block
        if len(body) > MAX_JSON_BYTES:
            raise Unheard("an endless answer")
    return bytes(body)


def read_json(body: bytes) -> Any:
    """The value of a node's answer; None where that is no JSON."""
    try:
        return json.loads(body, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return None


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no JSON, and whoever gets our answer could not read it")


def _authorization(address: Address | None) -> Mapping[str, str]:
    return {"Authorization": f"Bearer {address.token}"} if address and address.token else {}


@functools.cache
def _tls() -> ssl.SSLContext:
    """The system's trust, and certifi's."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context
