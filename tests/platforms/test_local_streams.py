"""Pieces of a job, drained or read by number; and of one whose worker is lost, or thought lost."""

import json
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from platforms.local.store import Store
from shared.errors import DeliveryFailed, Internal
from shared.jobs.client import Client
from tests.platforms.harness import KEY, Endpoint, until


def piece(endpoint: Endpoint, job_id: str, text: str, worker: str = "w1") -> None:
    assert endpoint.piece(job_id, b'{"output":"%s"}' % text.encode(), worker).status_code == 200


def read(endpoint: Endpoint, job_id: str, start: int = 0) -> dict[str, Any]:
    return dict(endpoint.call("GET", f"stream/{job_id}?from={start}&wait=0").json())


def lose(endpoint: Endpoint, worker: str = "w1") -> None:
    endpoint.server.call(lambda: endpoint.desk.worker_lost(worker))


def test_stream_drains_once_and_replays_on_request(endpoint: Endpoint) -> None:
    job_id = endpoint.submit()
    assert endpoint.call("GET", f"stream/{job_id}?wait=1").json() == {"status": "IN_QUEUE", "stream": [], "next": 0}
    endpoint.take()
    for text in "abc":
        endpoint.piece(job_id, json.dumps({"output": text}).encode())
    drained = endpoint.call("POST", f"stream/{job_id}").json()
    assert [item["output"] for item in drained["stream"]] == ["a", "b", "c"]
    assert drained["status"] == "IN_PROGRESS"
    endpoint.piece(job_id, b'{"output":"d"}')
    endpoint.done(job_id, b'{"output":[]}')
    last = endpoint.call("GET", f"stream/{job_id}").json()
    assert (last["status"], [i["output"] for i in last["stream"]]) == ("COMPLETED", ["d"])
    assert endpoint.call("GET", f"stream/{job_id}").json()["stream"] == []
    replay = endpoint.call("GET", f"stream/{job_id}?from=1").json()
    assert replay["stream"] == [{"output": t, "n": n} for n, t in ((1, "b"), (2, "c"), (3, "d"))]
    again = endpoint.call("GET", f"stream/{job_id}?from={replay['next']}").json()
    assert again == {"status": "COMPLETED", "stream": [], "next": replay["next"]}


def test_stream_holds_until_there_is_a_piece(endpoint: Endpoint) -> None:
    job_id = endpoint.submit()
    endpoint.take()
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(endpoint.call, "GET", f"stream/{job_id}?wait=20000")
        endpoint.progress(job_id)
        endpoint.piece(job_id, b'{"output":{"x":1}}')
        assert waiting.result().json()["stream"][0]["output"] == {"x": 1}


def test_a_reader_that_has_gone_drains_nothing(endpoint: Endpoint) -> None:
    job_id = endpoint.submit()
    endpoint.take()
    before = endpoint.tasks()
    with pytest.raises(requests.ReadTimeout):
        requests.get(f"{endpoint.url}/stream/{job_id}?wait=60000", headers={"Authorization": KEY}, timeout=0.3)
    until(lambda: endpoint.tasks() <= before)  # the server has seen it go
    endpoint.piece(job_id, b'{"output":"a"}')
    assert len(endpoint.call("GET", f"stream/{job_id}").json()["stream"]) == 1


def test_a_long_stream_comes_in_parts(endpoint: Endpoint) -> None:
    job_id = endpoint.submit()
    endpoint.take()
    piece = b'{"output":"' + b"x" * 7 * 2**20 + b'"}'
    for _ in range(4):
        endpoint.piece(job_id, piece)
    endpoint.done(job_id, b'{"output":[]}')
    first = endpoint.call("GET", f"stream/{job_id}").json()
    second = endpoint.call("GET", f"stream/{job_id}").json()
    assert [(v["status"], len(v["stream"])) for v in (first, second)] == [("IN_PROGRESS", 3), ("COMPLETED", 1)]


def test_strict_streams_know_no_numbers(strict: Endpoint) -> None:
    job_id = strict.submit()
    strict.take()
    strict.piece(job_id, b'{"output":"a"}')
    assert strict.call("GET", f"stream/{job_id}?from=0").json() == {
        "status": "IN_PROGRESS",
        "stream": [{"output": "a"}],
    }
    strict.done(job_id)
    assert strict.call("GET", f"stream/{job_id}?from=0").json() == {"status": "COMPLETED", "stream": []}


def test_strict_refuses_pieces_over_a_megabyte(strict: Endpoint) -> None:
    job_id = strict.submit()
    strict.take()
    assert strict.piece(job_id, b'{"output":"' + b"x" * 1_000_000 + b'"}').status_code == 400
    assert strict.piece(job_id, b'{"output":"' + b"x" * 999_000 + b'"}').status_code == 200


def test_a_second_run_numbers_on_and_says_from_where(endpoint: Endpoint) -> None:
    job_id = endpoint.submit()
    endpoint.take("w1")
    piece(endpoint, job_id, "a")
    assert "first" not in read(endpoint, job_id)
    lose(endpoint)
    endpoint.take("w2")
    piece(endpoint, job_id, "a", "w2")
    assert read(endpoint, job_id) == {
        "status": "IN_PROGRESS",
        "stream": [{"output": "a", "n": 1}],
        "next": 2,
        "first": 1,
    }


def test_a_worker_thought_lost_loses_no_piece(endpoint: Endpoint) -> None:
    job_id = endpoint.submit()
    endpoint.take("w1")
    piece(endpoint, job_id, "a")
    endpoint.ping("w1")
    endpoint.ping("w1")
    assert endpoint.status(job_id)["status"] == "IN_QUEUE"
    piece(endpoint, job_id, "b")
    endpoint.ping("w1", job_id)
    piece(endpoint, job_id, "c")
    endpoint.done(job_id)
    view = read(endpoint, job_id)
    assert ([item["output"] for item in view["stream"]], view["status"]) == (["a", "b", "c"], "COMPLETED")


def test_pieces_of_a_worker_that_lost_its_job_to_another_are_ignored(endpoint: Endpoint) -> None:
    job_id = endpoint.submit()
    endpoint.take("w1")
    piece(endpoint, job_id, "a")
    lose(endpoint)
    endpoint.take("w2")
    piece(endpoint, job_id, "b", "w1")
    assert read(endpoint, job_id)["stream"] == []


def test_our_client_stops_where_the_text_begins_again(endpoint: Endpoint) -> None:
    job_id = endpoint.submit()
    endpoint.take("w1")
    piece(endpoint, job_id, "a")
    with Client(endpoint.base, "media", KEY) as client:
        stream = client.stream(job_id)
        assert next(stream) == "a"
        lose(endpoint)
        endpoint.take("w2")
        piece(endpoint, job_id, "a", "w2")
        with pytest.raises(Internal, match="begins anew"):
            next(stream)
        endpoint.done(job_id, b'{"output":["a"]}', "w2")
        assert list(client.stream(job_id)) == ["a"]


def test_our_client_reads_a_strict_endpoint_whole(strict: Endpoint) -> None:
    job_id = strict.submit()
    strict.take("w1")
    piece(strict, job_id, "a")
    strict.call("GET", f"stream/{job_id}")  # another reader takes what is there
    piece(strict, job_id, "b")
    strict.done(job_id, b'{"output":["a","b"]}')
    with Client(strict.base, "media", KEY) as client:
        with pytest.raises(DeliveryFailed, match="lost on the way"):
            list(client.stream(job_id))
        assert list(client.stream(job_id)) == ["a", "b"]  # all of it from the output


def test_a_database_of_an_earlier_version_is_taken_over(tmp_path: Path) -> None:
    Store(tmp_path).close()
    with sqlite3.connect(tmp_path / "jobs.sqlite3") as database:
        database.execute("ALTER TABLE jobs DROP COLUMN first_event")
    database.close()
    store = Store(tmp_path)
    assert store.queued() == []
    store.close()
