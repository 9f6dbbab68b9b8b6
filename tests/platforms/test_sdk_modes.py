"""The SDK's own ways to run a worker without a queue: --test_input, test_input.json, --rp_serve_api."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from shared.settings import inherited
from tests.platforms.lab import HANDLERS, until

ROOT = Path(__file__).parents[2]
WORKER = [sys.executable, "-m", "platforms.runpod.worker"]


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "models.json").write_text("[]")
    return inherited(
        HANDLERS=str(HANDLERS), MODELS=str(tmp_path / "models.json"), PYTHONPATH=str(ROOT), RUNPOD_LOG_LEVEL="INFO"
    )


def worker(env: dict[str, str], *arguments: str, folder: Path | None = None) -> "subprocess.CompletedProcess[str]":
    """A worker that has ended by itself."""
    return subprocess.run(
        [*WORKER, *arguments], env=env, cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )


def one_job(env: dict[str, str], **job: Any) -> "subprocess.CompletedProcess[str]":
    """A worker that was given its only job on the command line."""
    return worker(env, "--test_input", json.dumps({"input": job}))


def test_one_job_from_the_command_line(env: dict[str, str]) -> None:
    done = one_job(env, pipeline="sleep", ms=1)
    assert done.returncode == 0, done.stderr
    assert "Job result: {'output': {'metrics'" in done.stdout


def test_a_wrong_job_from_the_command_line_fails_with_what_is_wrong(env: dict[str, str]) -> None:
    done = one_job(env, pipeline="sleep", ms=-1)
    assert done.returncode == 1
    assert "invalid_input: ms: Input should be greater than or equal to 0" in done.stdout


def test_one_job_from_a_file(env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "test_input.json").write_text(json.dumps({"input": {"pipeline": "sleep", "ms": 1}}))
    done = worker(env, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "completed successfully" in done.stdout


def test_a_text_from_the_command_line(env: dict[str, str]) -> None:
    done = one_job({**env, "PIPELINE": "tell"}, pieces=["one ", "two"], stream=False)
    assert done.returncode == 0, done.stderr
    assert "Job result: {'output': ['one two']}" in done.stdout


def test_a_wrong_text_from_the_command_line_fails_with_what_is_wrong(env: dict[str, str]) -> None:
    done = one_job({**env, "PIPELINE": "tell"}, times=-1)
    assert done.returncode == 1
    assert "invalid_input: times: Input should be greater than or equal to 0" in done.stdout


@pytest.fixture
def streaming(env: dict[str, str]) -> Iterator[str]:
    with serving({**env, "PIPELINE": "tell"}) as url:
        yield url


def test_the_sdks_server_streams(streaming: str) -> None:
    given = {"input": {"pieces": ["one ", "two"], "details": True}}
    *text, details = requests.post(f"{streaming}/runsync", json=given, timeout=30).json()["output"]
    assert "".join(text) == "one two"
    assert details["receipt"]["pipeline"] == "tell"
    job = requests.post(f"{streaming}/run", json=given, timeout=30).json()["id"]
    heard = requests.post(f"{streaming}/stream/{job}", timeout=30).json()
    assert heard["status"] == "COMPLETED"
    assert "".join(piece["output"] for piece in heard["stream"][:-1]) == "one two"
    wrong = requests.post(f"{streaming}/runsync", json={"input": {"times": -1}}, timeout=30).json()
    assert wrong["output"][0]["error"].startswith("invalid_input: times:")


@pytest.fixture
def served(env: dict[str, str]) -> Iterator[str]:
    with serving(env) as url:
        yield url


@contextmanager
def serving(env: dict[str, str]) -> Iterator[str]:
    """The SDK's server with our worker in it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = ["--rp_serve_api", "--rp_api_host", "127.0.0.1", "--rp_api_port", str(port)]
    with subprocess.Popen(
        [*WORKER, *flags], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        url = f"http://127.0.0.1:{port}"
        until(lambda: _answers(url), "the SDK's server does not answer")
        yield url
        process.terminate()
        process.wait(30)


def test_the_sdks_server_runs_jobs(served: str) -> None:
    done = requests.post(f"{served}/runsync", json={"input": {"pipeline": "sleep", "ms": 1}}, timeout=30).json()
    assert done["status"] == "COMPLETED"
    assert done["output"]["receipt"]["pipeline"] == "sleep"
    wrong = requests.post(f"{served}/runsync", json={"input": {"pipeline": "none"}}, timeout=30).json()
    assert wrong["status"] == "FAILED"
    assert wrong["error"].startswith("invalid_input:")


def _answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=1).ok
    except requests.ConnectionError:
        return False
