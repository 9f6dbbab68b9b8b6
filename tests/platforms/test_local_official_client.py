"""The official client on one end, the real SDK's worker on the other."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from platforms.local.up import LocalEndpoint
from shared.errors import Cancelled, Internal
from shared.jobs.client import Client
from tests.platforms.harness import PLAIN_WORKER, WebhookSink, until


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalEndpoint]:
    data = tmp_path_factory.mktemp("up")
    with LocalEndpoint(data, command=[sys.executable, str(PLAIN_WORKER)], post=WebhookSink().post) as endpoint:
        yield endpoint


@pytest.fixture
def official(up: LocalEndpoint, monkeypatch: pytest.MonkeyPatch) -> Any:
    import runpod

    monkeypatch.setattr(runpod, "endpoint_url_base", up.url)
    return runpod.Endpoint("media", api_key=up.key)


@pytest.fixture
def client(up: LocalEndpoint) -> Iterator[Client]:
    with Client(up.url, "media", up.key) as ours:
        yield ours


def test_run_and_poll(official: Any) -> None:
    job = official.run({"input": {"x": 1}})
    assert job.output(timeout=30) == {"echo": {"x": 1}}
    assert job.status() == "COMPLETED"


def test_run_sync(official: Any) -> None:
    assert official.run_sync({"x": 2}, timeout=30) == {"echo": {"x": 2}}


def test_cancel_stops_a_running_job_and_the_worker_takes_the_next(official: Any, client: Client) -> None:
    job = official.run({"input": {"sleep_s": 60}})
    until(lambda: job.status() == "IN_PROGRESS")
    assert job.cancel()["status"] == "CANCELLED"
    assert job.status() == "CANCELLED"
    began = time.monotonic()
    assert client.run({"after": 1}) == {"echo": {"after": 1}}
    assert time.monotonic() - began < 30


def test_purge_and_health(official: Any) -> None:
    running = official.run({"input": {"sleep_s": 60}})
    until(lambda: running.status() == "IN_PROGRESS")
    for _ in range(3):
        official.run({"input": {"a": 1}})
    assert official.health()["jobs"]["inQueue"] == 3
    assert official.health()["workers"]["running"] == 1
    assert official.purge_queue() == {"removed": 3, "status": "completed"}
    running.cancel()


def test_our_client_sees_progress_and_errors(client: Client) -> None:
    seen: list[dict[str, Any]] = []
    output = client.run({"progress": {"step": 1}, "sleep_s": 0.5}, on_progress=seen.append)
    assert output["echo"]["sleep_s"] == 0.5
    assert {"step": 1} in [job.get("output") for job in seen]
    with pytest.raises(Internal, match="ValueError: too wide"):
        client.run({"raise": "too wide"})
    job_id = client.submit({"sleep_s": 60})
    until(lambda: client.status(job_id)["status"] == "IN_PROGRESS")
    client.cancel(job_id)
    with pytest.raises(Cancelled):
        client.wait(job_id)
    client.run({"after": 1})  # the worker has let go of it


def test_the_worker_starts_apart_from_its_user(up: LocalEndpoint) -> None:
    (pid,) = up.pools["media"].running().values()
    raw = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    env = dict(item.decode().partition("=")[::2] for item in raw if item)
    assert env["HOME"].endswith("/home")
    assert env["RUNPOD_WEBHOOK_GET_JOB"] == f"{up.url}/media/job-take/$ID?gpu=LOCAL"
    assert env["FILES_URL"] == f"{up.url}/media/files"
    assert up.key not in env.values()
