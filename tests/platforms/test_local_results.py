"""Results and their files: how large they may be, and how long they are kept."""

import json
from pathlib import Path

import pytest
import requests

from tests.platforms.harness import KEY, Endpoint

WEEK_S = 7 * 86_400


def test_files_go_up_with_the_worker_and_down_with_the_client(endpoint: Endpoint, tmp_path: Path) -> None:
    job_id = endpoint.submit()
    endpoint.take()
    content = bytes(range(256)) * 5000
    put = endpoint.worker("PUT", f"files/{job_id}/out-0.png", data=content)
    assert put.json() == {"url": f"{endpoint.url}/files/{job_id}/out-0.png"}
    got = requests.get(put.json()["url"], headers={"Authorization": f"Bearer {KEY}"}, timeout=5)
    assert (got.content, got.headers["Content-Type"]) == (content, "image/png")
    for name in ("..%2f..%2fx", ".hidden", "a%20b", "x" * 200):
        assert endpoint.worker("PUT", f"files/{job_id}/{name}", data=b"x").status_code in (400, 404)
    assert endpoint.worker("PUT", "files/nope/a.png", data=b"x").status_code == 404
    for name in ("..%2f..%2fjobs.sqlite3", "%2e%2e", "nope.png"):
        assert endpoint.call("GET", f"files/{job_id}/{name}").status_code == 404
    endpoint.done(job_id)
    assert endpoint.worker("PUT", f"files/{job_id}/late.png", data=b"x").status_code == 404
    assert [path.name for path in (tmp_path / "data").rglob("*.png")] == ["out-0.png"]


def test_results_and_their_files_are_kept_a_week(endpoint: Endpoint, tmp_path: Path) -> None:
    job_id = endpoint.submit()
    endpoint.take()
    endpoint.worker("PUT", f"files/{job_id}/a.png", data=b"x")
    endpoint.done(job_id)
    endpoint.clock.advance(WEEK_S - 1)
    assert endpoint.status(job_id)["status"] == "COMPLETED"
    endpoint.clock.advance(1)
    assert endpoint.call("GET", f"status/{job_id}").status_code == 404
    endpoint.tick()
    assert list((tmp_path / "data").rglob("*.png")) == []


@pytest.mark.parametrize(("route", "kept_s"), [("run", 1800), ("runsync?wait=1000", 60)])
def test_strict_keeps_results_as_long_as_runpod(strict: Endpoint, route: str, kept_s: int) -> None:
    job_id = strict.call("POST", route, json={"input": {"a": 1}}).json()["id"]
    strict.take()
    strict.done(job_id)
    strict.clock.advance(kept_s - 1)
    assert strict.status(job_id)["status"] == "COMPLETED"
    strict.clock.advance(1)
    assert strict.call("GET", f"status/{job_id}").status_code == 404


def test_a_result_without_room_on_the_disk_ends_its_job_and_says_so(endpoint: Endpoint) -> None:
    job_id = endpoint.submit()
    endpoint.take()
    bound = endpoint.server.call(lambda: _bound_pages(endpoint, 2))
    assert endpoint.done(job_id, b'{"output":"' + b"x" * 10**6 + b'"}').status_code == 200
    ended = endpoint.status(job_id)
    assert (ended["status"], ended.get("retries", 0)) == ("FAILED", 0)
    assert ended["error"].startswith("delivery_failed: ")
    assert "disk is full" in ended["error"]
    refused = endpoint.call("POST", "run", json={"input": {"a": "x" * 10**6}})
    assert (refused.status_code, refused.json()["detail"]["code"]) == (503, "insufficient_capacity")
    endpoint.server.call(lambda: _bound_pages(endpoint, bound))
    assert endpoint.status(endpoint.submit({"a": "x" * 10**6}))["status"] == "IN_QUEUE"


def _bound_pages(endpoint: Endpoint, more: int) -> int:
    """Let the database grow by that many pages at most; returns a bound beyond any test."""
    database = endpoint.desk.store._db
    (used,) = database.execute("PRAGMA page_count").fetchone()
    database.execute(f"PRAGMA max_page_count={used + more}")
    return 10**6


def test_large_results_are_whole(endpoint: Endpoint) -> None:
    job_id = endpoint.submit()
    endpoint.take()
    text = "x" * 30_000_000
    assert endpoint.done(job_id, json.dumps({"output": text}).encode()).status_code == 200
    assert endpoint.status(job_id)["output"] == text


@pytest.mark.parametrize(("route", "limit"), [("run", 10_000_000), ("runsync?wait=1000", 20_000_000)])
def test_strict_completes_without_a_large_result(strict: Endpoint, route: str, limit: int) -> None:
    outcomes = []
    for size in (limit, limit + 1):
        job_id = strict.call("POST", route, json={"input": {"a": 1}}).json()["id"]
        strict.take()
        body = b'{"output":"' + b"x" * (size - 13) + b'"}'
        code = strict.done(job_id, body).status_code
        outcomes.append((code, strict.status(job_id)["status"], "output" in strict.status(job_id)))
    assert outcomes == [(200, "COMPLETED", True), (400, "COMPLETED", False)]
