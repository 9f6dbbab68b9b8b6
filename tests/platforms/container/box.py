"""Containers on loopback: in a thread of this process, and as processes of their own."""

import asyncio
import contextlib
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import requests

import handlers
from platforms.container.server import ContainerServer
from shared.runner import Runner
from shared.settings import Settings, inherited
from tests.platforms.harness import until

ROOT = Path(__file__).parents[3]
EXTRA = ROOT / "tests" / "platforms" / "extra_handlers"


class Calls:
    """Requests to a container, over one connection; `later` over one of its own."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.session = requests.Session()
        self._threads = ThreadPoolExecutor(16)

    def close(self) -> None:
        self.session.close()
        self._threads.shutdown()

    def get(self, path: str, **more: Any) -> requests.Response:
        return self.session.get(f"{self.url}{path}", timeout=30, **more)

    def post(self, path: str, body: Any = None, **more: Any) -> requests.Response:
        """JSON, or a form with `data` and `files`."""
        return self.session.post(f"{self.url}{path}", json=body, timeout=30, **more)

    def later(self, path: str, body: Any, **more: Any) -> "Future[requests.Response]":
        return self._threads.submit(requests.post, f"{self.url}{path}", json=body, timeout=60, **more)

    def ok(self, path: str, body: Any = None, **more: Any) -> dict[str, Any]:
        answer = self.post(path, body, **more)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())


class Box(Calls):
    """A container in a thread, with the pipelines of tests and no model; `env` are settings."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        if "models" not in settings:
            settings["models"] = folder / "models.json"
            settings["models"].write_text("[]")
        folder = settings.setdefault("handlers", EXTRA)
        self.runner = Runner(Settings(**settings), handlers.Folders(folder))
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.server = ContainerServer(self.runner, self.listening, is_open=True)
        self.code: int | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        super().__init__(f"http://127.0.0.1:{self.server.port}")

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=self.server.loop_factory) as loop:
            self._loop = loop.get_loop()
            self.code = loop.run(self.server.run())

    def __enter__(self) -> Self:
        self.start()
        until(lambda: self.server.health.is_ready)
        return self

    def start(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.ended()
        self.close()
        self.listening.close()

    def status(self) -> str:
        return str(self.get("/health").json()["status"])

    def stop(self) -> None:
        """What SIGTERM does."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self.server.stop)

    def goes_on(self, for_s: float) -> bool:
        """Whether it does for so long."""
        self._thread.join(for_s)
        return self._thread.is_alive()

    def ended(self) -> int | None:
        self._thread.join(30)
        assert not self._thread.is_alive()
        return self.code


class Process(Calls):
    """A container as `pilotlight serve` or the image starts it."""

    def __init__(self, folder: Path, *arguments: str, **env: str) -> None:
        self.port = _free_port()
        (folder / "models.json").write_text("[]")
        base = {"HANDLERS": str(EXTRA), "MODELS": str(folder / "models.json"), "OMP_NUM_THREADS": "1"}
        self.log = folder / "container.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, *(arguments or ("-m", "platforms.cli", "serve", "--port", str(self.port)))],
                env=inherited(**{**base, "PORT": str(self.port), "HOST": "127.0.0.1", **env}),
                cwd=ROOT,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        super().__init__(f"http://127.0.0.1:{self.port}")

    def __enter__(self) -> Self:
        until(self.health, 60)
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self.close()

    def health(self) -> dict[str, Any] | None:
        """What /health says, once it says something."""
        assert self.process.poll() is None, self.log.read_text()
        try:
            return dict(self.get("/health").json())
        except requests.ConnectionError:
            return None

    def until_ready(self) -> None:
        until(lambda: (self.health() or {}).get("status") in ("OK", "IDLE"), 60)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def exit_code(self, timeout_s: float = 30) -> int:
        return self.process.wait(timeout_s)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def events(answer: requests.Response) -> Iterator[Any]:
    """The data of server-sent events; JSON where it is JSON."""
    for line in answer.iter_lines():
        if line.startswith(b"data: "):
            data = line[6:].decode()
            yield data if data == "[DONE]" else json.loads(data)


def until_written(file: Path, text: str) -> None:
    until(lambda: file.exists() and text in file.read_text(), 30)


def since(begun: float) -> float:
    return time.monotonic() - begun
