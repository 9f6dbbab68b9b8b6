"""Webhooks over the wire, under the fetcher's policy."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from platforms.local.server import webhook_post
from tests.platforms.harness import Endpoint, until


class Sink(ThreadingHTTPServer):
    """Takes what is posted."""

    def __init__(self) -> None:
        self.bodies: list[Any] = []
        super().__init__(("127.0.0.1", 0), _Take)


class _Take(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Sink)
        assert self.headers["Content-Type"] == "application/json"
        self.server.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name in the base class
        pass


@pytest.fixture
def sink() -> Iterator[Sink]:
    with Sink() as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def test_an_allowed_address_is_called(sink: Sink, tmp_path: Path) -> None:
    host = f"127.0.0.1:{sink.server_port}"
    with Endpoint(tmp_path, post=webhook_post(host)) as endpoint:
        job_id = endpoint.submit(webhook=f"http://{host}/hook")
        endpoint.take()
        endpoint.done(job_id)
        body = until(lambda: sink.bodies)[0]
        assert (body["id"], body["status"], body["output"]) == (job_id, "COMPLETED", {"ok": 1})


def test_a_private_address_is_not_and_the_log_says_what_would_allow_it(
    sink: Sink, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    host = f"127.0.0.1:{sink.server_port}"
    with Endpoint(tmp_path, post=webhook_post("")) as endpoint:
        job_id = endpoint.submit(webhook=f"http://{host}/hook?secret=s")
        endpoint.take()
        endpoint.done(job_id)
        until(lambda: f"{job_id}: invalid_input: 127.0.0.1 points to a private address" in caplog.text)
    assert f"ALLOW_PRIVATE_HOSTS={host}" in caplog.text
    assert "secret" not in caplog.text
    assert sink.bodies == []
