"""A line between a browser and the page that keeps every byte which the browser receives."""

import contextlib
import re
import socket
import socketserver
import threading
from collections.abc import Callable
from typing import Self
from urllib.parse import urlsplit


class Wire:
    """Passes connections on to the page at `url`; its own address is `self.url`.

    Requests are passed on without the browser's wish for compression, so that what is received can be read.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._page = (str(parts.hostname), int(parts.port or 80))
        self._lock = threading.Lock()
        self._received = bytearray()
        wire = self

        class Line(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                wire._connect(self.request)

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Line)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def received(self) -> bytes:
        with self._lock:
            return bytes(self._received)

    def _connect(self, browser: socket.socket) -> None:
        with socket.create_connection(self._page) as page:
            asking = threading.Thread(target=self._pass_on, args=(browser, page, self._uncompressed), daemon=True)
            asking.start()
            self._pass_on(page, browser, self._keep)
            with contextlib.suppress(OSError):
                page.shutdown(socket.SHUT_RDWR)
            asking.join()

    def _pass_on(self, source: socket.socket, target: socket.socket, change: Callable[[bytes], bytes]) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(change(data))
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def _keep(self, data: bytes) -> bytes:
        with self._lock:
            self._received += data
        return data

    @staticmethod
    def _uncompressed(data: bytes) -> bytes:
        return re.sub(rb"(?i)\r\naccept-encoding: ", b"\r\nx-encoding: ", data)
