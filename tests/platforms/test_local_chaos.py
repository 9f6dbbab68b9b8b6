"""Processes that die, as processes do."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from platforms.local.up import LocalEndpoint
from platforms.local.workers import WorkerPool, worker_env
from shared.errors import InsufficientCapacity, Internal, InvalidInput
from shared.jobs.client import Client
from tests.platforms.harness import KEY, PLAIN_WORKER, TOKEN, Endpoint, WebhookSink, until

PLAIN = (sys.executable, str(PLAIN_WORKER))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


class Served:
    """The server as a process of its own, to be killed."""

    def __init__(self, data: Path, port: int) -> None:
        self._command = [
            *(sys.executable, "-m", "platforms.local.server", "--data", str(data), "--port", str(port)),
            *("--key", KEY, "--worker-token", TOKEN),
        ]
        self._port = port
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self._command)
        until(self._answers)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def _answers(self) -> bool:
        assert self.process.poll() is None
        try:
            return requests.get(f"http://127.0.0.1:{self._port}/health", timeout=5).status_code == 200
        except requests.ConnectionError:
            return False


@contextmanager
def plain_workers(url: str, tmp_path: Path) -> Iterator[WorkerPool]:
    env = worker_env(os.environ, f"{url}/media", TOKEN, tmp_path, ping_interval_ms=1000, files=True)
    pool = WorkerPool(1, env, tmp_path / "logs", lambda _id: None, lambda _id: None, PLAIN, drain_s=0.1)
    pool.start()
    try:
        yield pool
    finally:
        pool.stop()


def test_kill_9_of_the_server_loses_nothing(tmp_path: Path) -> None:
    ran, gate = tmp_path / "ran", tmp_path / "gate"
    port = free_port()
    url = f"http://127.0.0.1:{port}/v2"
    server = Served(tmp_path / "data", port)
    try:
        with Client(url, "media", KEY) as client, plain_workers(url, tmp_path):
            running = client.submit({"gate": str(gate), "ran_file": str(ran)})
            until(lambda: client.status(running)["status"] == "IN_PROGRESS")
            queued = [client.submit({"n": n, "ran_file": str(ran)}, idempotency_key=str(n)) for n in range(4)]
            server.kill()
            server.start()
            assert client.submit({"n": 3, "ran_file": str(ran)}, idempotency_key="3") == queued[3]
            gate.touch()
            assert client.wait(running)["echo"]["gate"] == str(gate)
            assert [client.wait(job_id)["echo"]["n"] for job_id in queued] == list(range(4))
            assert Counter(ran.read_text().split()) == Counter([running, *queued])
    finally:
        server.kill()


def test_a_worker_that_cannot_even_be_started_is_tried_again_and_then_said(tmp_path: Path) -> None:
    nothing = str(tmp_path / "nothing")
    pool = WorkerPool(1, {}, tmp_path / "logs", lambda _id: None, lambda _id: None, (nothing,))
    pool.start()
    until(lambda: pool.error is not None)
    pool.stop()
    assert "ended 3 times before its first job, last with 'No such file or directory'" in str(pool.error)


def test_a_second_server_on_the_folder_is_refused(tmp_path: Path) -> None:
    with Endpoint(tmp_path):
        with pytest.raises(InvalidInput, match="belongs to an endpoint that runs already"):
            Endpoint(tmp_path)
        command = [sys.executable, "-m", "platforms.local.server", "--data", str(tmp_path), "--port", "0"]
        second = subprocess.run([*command, "--key", "k", "--worker-token", "t"], capture_output=True, text=True)
        assert second.returncode == 1
        assert "belongs to an endpoint that runs already" in second.stderr
    with Endpoint(tmp_path):
        pass


def test_a_killed_worker_is_replaced_and_its_jobs_are_run(tmp_path: Path) -> None:
    with (
        LocalEndpoint(tmp_path, command=PLAIN, post=WebhookSink().post) as up,
        Client(up.url, "media", up.key) as client,
    ):
        ran = tmp_path / "ran"
        job_id = client.submit({"sleep_s": 0.5, "ran_file": str(ran)})
        until(lambda: ran.exists())
        ((killed, pid),) = up.pools["media"].running().items()
        os.kill(pid, signal.SIGKILL)
        assert client.wait(job_id)["echo"]["sleep_s"] == 0.5
        assert client.status(job_id)["workerId"] != killed
        # the worker that dies of the job after its start ends the job the second time
        with pytest.raises(Internal, match="worker lost twice"):
            client.run({"progress": 1, "sleep_s": 0.5, "die": True})
        assert client.run({"a": 1}) == {"echo": {"a": 1}}


def test_a_worker_that_cannot_start_is_given_up_with_its_log(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "raise SystemExit('no such device')"]
    endpoint = LocalEndpoint(tmp_path, command=command, post=WebhookSink().post)
    with pytest.raises(InsufficientCapacity, match="no such device"):
        endpoint.start()
    with Endpoint(tmp_path):  # the folder is free again
        pass


def test_a_worker_that_asks_to_be_restarted_is(tmp_path: Path) -> None:
    with (
        LocalEndpoint(tmp_path, command=PLAIN, post=WebhookSink().post) as up,
        Client(up.url, "media", up.key) as client,
    ):
        before = set(up.pools["media"].running())
        assert client.run({"answer": {"refresh_worker": True, "x": 1}}) == {"x": 1}
        until(lambda: up.pools["media"].running() and not before & set(up.pools["media"].running()))
        assert client.run({"a": 1}) == {"echo": {"a": 1}}


def test_workers_die_with_the_process_that_started_them(tmp_path: Path) -> None:
    script = f"""
import sys, time, pathlib
from platforms.local.up import LocalEndpoint
with LocalEndpoint(pathlib.Path({str(tmp_path)!r}), command={list(PLAIN)!r}, post=lambda url, body: 200) as up:
    print(*up.pools["media"].running().values(), flush=True)
    time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        worker = Path(f"/proc/{int(owner.stdout.readline())}")
        owner.kill()
        owner.wait()
        until(lambda: not worker.exists() or "\nState:\tZ" in worker.joinpath("status").read_text())
    with contextlib.suppress(ProcessLookupError):  # the ping process of the SDK's plain worker outlives it
        os.killpg(int(worker.name), signal.SIGKILL)
