"""What the image starts, `pilotlight serve`, and to whom they listen."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from platforms.container.server import is_loopback, serve
from shared.errors import InvalidInput
from shared.settings import Settings, inherited
from tests.platforms.container.box import EXTRA, ROOT, Process

START = ("-m", "platforms.start")


def ended(folder: Path, *arguments: str, **env: str) -> "subprocess.CompletedProcess[str]":
    """A command that ends by itself."""
    (folder / "models.json").write_text("[]")
    base = {"HANDLERS": str(EXTRA), "MODELS": str(folder / "models.json")}
    return subprocess.run(
        [sys.executable, *arguments],
        env=inherited(**{**base, **env}),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_off_runpod_the_image_starts_the_container_which_says_that_it_is_open(tmp_path: Path) -> None:
    with Process(tmp_path, *START, SERVE_OPEN="1", HOST="0.0.0.0", PIPELINE="sleep") as container:
        container.until_ready()
        assert (container.health() or {})["open"] is True
        assert container.ok("/sleep", {"ms": 0})["receipt"]["pipeline"] == "sleep"
    assert container.log.read_text().count("serving without a key") == 1


def test_with_a_key_it_is_not_open(tmp_path: Path) -> None:
    with Process(tmp_path, *START, AUTH_TOKEN="k", HOST="0.0.0.0") as container:
        assert (container.health() or {})["open"] is False
        assert container.post("/sleep", {"ms": 0}).status_code == 401
    assert "without a key" not in container.log.read_text()


def test_off_loopback_it_wants_a_key(tmp_path: Path) -> None:
    done = ended(tmp_path, *START)
    assert done.returncode == 1
    assert "set AUTH_TOKEN to listen on 0.0.0.0" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken_is_named() -> None:
    settings = Settings(pipeline="sleep", handlers=EXTRA)
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(InvalidInput, match="cannot be used"):
        serve(settings, "127.0.0.1", taken.getsockname()[1])


def test_on_runpod_the_image_starts_the_worker(tmp_path: Path) -> None:
    """Which says what is wrong with its environment as the worker does, and opens no port."""
    done = ended(
        tmp_path, *START, RUNPOD_WEBHOOK_GET_JOB="http://127.0.0.1:9/$ID", PIPELINE="no-such", SERVE_OPEN="1"
    )
    assert done.returncode == 1
    assert "no pipeline 'no-such'" in done.stderr
    assert "ready" not in done.stderr


def test_serve_names_what_is_wrong(tmp_path: Path) -> None:
    done = ended(tmp_path, "-m", "platforms.cli", "serve", "--pipeline", "no-such", "--port", "0")
    assert (done.returncode, "no pipeline 'no-such'" in done.stderr) == (1, True)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("host", "is_ours"),
    [("127.0.0.1", True), ("127.0.0.2", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("x", False)],
)
def test_loopback(host: str, is_ours: bool) -> None:
    assert is_loopback(host) is is_ours
