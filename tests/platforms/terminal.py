"""The command line in a home of its own, and `pilotlight up` in another process."""

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shared.jobs.client import Client
from shared.settings import inherited
from tests.platforms.lab import HANDLERS

ROOT = Path(__file__).parents[2]
PILOTLIGHT = [sys.executable, "-m", "platforms.cli"]


class Terminal:
    """Runs commands in a home of its own, with a pipeline that sleeps; `models` are entries of a models.json."""

    def __init__(self, folder: Path, handlers: Path = HANDLERS, models: Sequence[dict[str, Any]] = ()) -> None:
        self.folder = folder
        (folder / "models.json").write_text(json.dumps(models))
        self.diary = folder / "diary"
        self.env = inherited(
            HOME=str(folder),
            XDG_CONFIG_HOME=str(folder / "config"),
            HANDLERS=str(handlers),
            MODELS=str(folder / "models.json"),
            DRAIN_S="20",
        )
        self.cwd = ROOT
        self.record = folder / "config" / "pilotlight" / "endpoints.json"

    def run(self, *args: str, **env: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*PILOTLIGHT, *args],
            env={**self.env, **env},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )

    def start(self, *args: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [*PILOTLIGHT, *args],
            env=self.env,
            cwd=self.cwd,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )

    def starts(self, name: str) -> int:
        text = self.diary.read_text() if self.diary.exists() else ""
        return text.count(f"{name} start ")


class Up:
    """`pilotlight up --json` in the foreground of another process."""

    def __init__(self, terminal: Terminal) -> None:
        self.process = terminal.start("up", "--json", "--port", "0", "--data", str(terminal.folder / "data"))
        assert self.process.stdout is not None
        self.said: dict[str, Any] = json.loads(self.process.stdout.readline())
        self.client = self.client_of(self.said["endpoints"][0])

    def client_of(self, endpoint: str) -> Client:
        return Client(self.said["url"], endpoint, self.said["key"])

    def children(self) -> list[int]:
        tasks = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        return [int(pid) for task in tasks for pid in task.read_text().split()]

    def end(self, number: signal.Signals) -> None:
        self.client.close()
        if self.process.poll() is None:
            self.process.send_signal(number)
        self.process.wait(60)
        assert self.process.stdout is not None
        self.process.stdout.close()
