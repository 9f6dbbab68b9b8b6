"""Requests as the bytes that Livepeer's Go client writes, and its reading of the answers.

From go-livepeer's `ai/worker/multipart.go` and `runner.gen.go`, and the standard library's `net/http`,
`mime/multipart` and `encoding/json`, as of Go 1.25.
"""

import json
import socket
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPResponse
from typing import Any
from urllib.parse import urlsplit

Value = str | int | float | bool

BOUNDARY = "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2"  # 30 random bytes as 60 hex digits
PATIENCE_S = 120.0


@dataclass(frozen=True)
class Body:
    """What is sent, and how its header calls it."""

    content_type: str
    data: bytes


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Message
    data: bytes

    def json(self) -> Any:
        """The body, as the Go client reads it: only where the header says JSON."""
        assert "json" in self.headers.get("Content-Type", ""), f"{self.status} is not JSON: {self.data[:200]!r}"
        return json.loads(self.data)


def json_body(fields: Mapping[str, Any]) -> Body:
    """As `encoding/json` writes a struct: no spaces, and `<`, `>` and `&` escaped."""
    text = json.dumps(fields, separators=(",", ":"), ensure_ascii=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Body("application/json", text.encode())


def multipart_body(image: bytes, filename: str, fields: Iterable[tuple[str, Value]]) -> Body:
    """As `mime/multipart` writes it: the file first, of a type that says nothing, then the fields as text."""
    head = f'Content-Disposition: form-data; name="image"; filename="{_escaped(filename)}"\r\n'
    parts = [f"{head}Content-Type: application/octet-stream\r\n\r\n".encode() + image]
    parts += [f'Content-Disposition: form-data; name="{n}"\r\n\r\n{text(v)}'.encode() for n, v in fields]
    between = f"\r\n--{BOUNDARY}\r\n".encode()
    data = between.removeprefix(b"\r\n") + between.join(parts) + f"\r\n--{BOUNDARY}--\r\n".encode()
    return Body(f"multipart/form-data; boundary={BOUNDARY}", data)


def text(value: Value) -> str:
    """A value as `strconv` and `%f` write it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:f}" if isinstance(value, float) else str(value)


def _escaped(filename: str) -> str:
    return filename.replace("\\", "\\\\").replace('"', '\\"').replace("\r", "%0D").replace("\n", "%0A")


def post(
    base: str, path: str, body: Body, token: str | None = None, *, halt: threading.Event | None = None
) -> Answer:
    """Send a request with the client's headers in its order; with `halt`, its last byte only once that is set."""
    head = [f"Content-Length: {len(body.data)}", *_authorization(token), f"Content-Type: {body.content_type}"]
    return _exchange(base, "POST", path, head, body.data, halt)


def get(base: str, path: str, token: str | None = None) -> Answer:
    """Ask for one of the documents that the node reads when it takes a container on."""
    return _exchange(base, "GET", path, _authorization(token))


def _authorization(token: str | None) -> list[str]:
    return [f"Authorization: Bearer {token}"] if token else []


def _exchange(
    base: str, method: str, path: str, head: list[str], data: bytes = b"", halt: threading.Event | None = None
) -> Answer:
    host = urlsplit(base).netloc
    name, _, port = host.partition(":")
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", "User-Agent: Go-http-client/1.1", *head]
    with socket.create_connection((name, int(port)), timeout=PATIENCE_S) as connection:
        sent = "\r\n".join([*lines, "Accept-Encoding: gzip", "", ""]).encode() + data
        if halt:
            connection.sendall(sent[:-1])
            assert halt.wait(PATIENCE_S)
        connection.sendall(sent[-1:] if halt else sent)
        response = HTTPResponse(connection, method=method)
        response.begin()
        answer = Answer(response.status, response.headers, response.read())
        response.close()
    assert "Content-Encoding" not in answer.headers, "media is compressed already; it must not be compressed again"
    return answer
