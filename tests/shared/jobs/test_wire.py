"""Bodies that come piece by piece, too slowly, or not at all; and together more than there is room for."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient
from starlette.requests import ClientDisconnect

from shared.errors import MediaTooLarge, RequestTimeout
from shared.jobs.api import client_app
from shared.jobs.uploads import AT_ONCE, SMALL, Uploads
from shared.jobs.wire import DRAIN_BYTES, read_body


class Sender:
    """A client that sends these pieces, each after as many seconds, and then says nothing more."""

    def __init__(self, *pieces: tuple[float, bytes], ends: bool = True, leaves: bool = False) -> None:
        self.pieces = list(pieces)
        self.ends = ends
        self.leaves = leaves

    async def receive(self) -> dict[str, Any]:
        if not self.pieces:
            if self.leaves:
                return {"type": "http.disconnect"}
            await asyncio.Event().wait()
        after_s, piece = self.pieces.pop(0)
        await asyncio.sleep(after_s)
        return {"type": "http.request", "body": piece, "more_body": bool(self.pieces) or not self.ends}

    def read(self, limit: int = 100) -> bytes:
        return asyncio.run(read_body(Request({"type": "http", "headers": []}, self.receive), limit))


def test_a_body_is_all_of_its_pieces() -> None:
    assert Sender((0, b"one "), (0, b""), (0, b"two")).read() == b"one two"


def test_a_client_that_leaves_is_no_end_of_a_body() -> None:
    with pytest.raises(ClientDisconnect):
        Sender((0, b"one"), ends=False, leaves=True).read()


def test_a_body_that_stops_coming_is_not_waited_for_however_much_of_it_came(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.jobs.wire.STALLED_S", 0.05)
    with pytest.raises(RequestTimeout, match=r"the body stopped for 0\.05 s"):
        Sender((0, b"x" * 2**20), ends=False).read()


def test_a_body_that_never_stalls_and_is_too_slow_on_the_whole_neither(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.jobs.wire.STALLED_S", 0.3)
    with pytest.raises(RequestTimeout):
        Sender(*[(0.01, b"x")] * 1000).read(10_000)


def test_a_large_body_has_the_time_that_its_length_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.jobs.wire.STALLED_S", 0.3)
    piece = b"x" * 10_000
    assert Sender(*[(0.01, piece)] * 40).read(10**6) == piece * 40


def test_what_is_too_long_is_read_on_for_a_while() -> None:
    sender = Sender((0, b"x" * 101), (0, b"x" * DRAIN_BYTES), (0, b"never read"))
    with pytest.raises(MediaTooLarge):
        sender.read()
    assert sender.pieces == [(0, b"never read")]


@pytest.fixture
def uploads() -> Uploads:
    return Uploads(600_000)


@pytest.fixture
def client(uploads: Uploads) -> Iterator[TestClient]:
    """Of an endpoint's API, for requests that get no further than its queue."""
    app: FastAPI = client_app({"x": object()}, "key", uploads=uploads)  # type: ignore[dict-item]
    with TestClient(app, headers={"Authorization": "Bearer key"}, raise_server_exceptions=False) as client:
        yield client


@pytest.mark.parametrize("route", ["run", "runsync", "openai/v1/chat/completions"])
def test_bodies_of_jobs_have_the_room_that_others_leave(client: TestClient, uploads: Uploads, route: str) -> None:
    large = b"x" * (SMALL + 1)  # which is no JSON either
    with ExitStack() as others:
        for _ in range(AT_ONCE):
            others.enter_context(uploads.room(None))
        refused = client.post(f"/v2/x/{route}", content=large)
        assert refused.status_code == 429
        assert int(refused.headers["Retry-After"]) > 0
        assert "queue_full" in refused.text
        assert client.post(f"/v2/x/{route}", content=b"no JSON").status_code == 400  # a small one is read
    assert client.post(f"/v2/x/{route}", content=large).status_code == 400
