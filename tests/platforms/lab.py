"""A local endpoint with real RunPod workers on a pipeline that sleeps, and the diary that its jobs keep."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from platforms.local.up import LocalEndpoint
from shared.jobs.client import Client
from tests.platforms.harness import until as _until

HANDLERS = Path(__file__).parent / "extra_handlers"


class Bench:
    """Endpoint `media` and its client; the endpoint runs within the block."""

    def __init__(self, endpoint: LocalEndpoint) -> None:
        self.endpoint = endpoint
        self.client = Client(endpoint.url, "media", endpoint.key)

    def __enter__(self) -> Self:
        self.endpoint.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.endpoint.stop()

    def status(self, job_id: str) -> str:
        return str(self.client.status(job_id)["status"])


class Lab(Bench):
    """Endpoint `media` with torch-free workers."""

    def __init__(self, folder: Path, *, workers: int = 1, env: dict[str, str] | None = None, **more: Any) -> None:
        self._folder = folder
        self.new_diary()
        no_models = folder / "models.json"
        no_models.write_text("[]")
        base = {"HANDLERS": str(HANDLERS), "MODELS": str(no_models), "DRAIN_S": "20"}
        super().__init__(LocalEndpoint(folder / "data", workers=workers, env={**base, **(env or {})}, **more))

    def new_diary(self) -> None:
        """Forget what earlier jobs wrote, so that names can be used again."""
        self.diary_path = self._folder / f"diary-{time.monotonic_ns()}"
        self.diary_path.touch()

    def until_idle(self) -> None:
        """A worker waits for a job."""
        until(lambda: self.client.health()["workers"]["idle"] >= 1, "no worker is idle")

    def submit(self, name: str, ms: float, **more: Any) -> str:
        """A job that sleeps, and its id."""
        return self.client.submit(
            {"pipeline": "sleep", "name": name, "ms": ms, "diary": str(self.diary_path), **more}
        )

    def learn(self, ms: float = 20) -> None:
        """Let the worker learn that jobs are short, so that it takes the next ones ahead."""
        self.client.wait(self.submit("lesson", ms))

    def starts(self, name: str) -> int:
        """How often the job got the device."""
        return sum(line.startswith(f"{name} start ") for line in self.diary_path.read_text().splitlines())

    def when(self, name: str, what: str) -> float:
        """The time of the job's last start or end."""
        lines = self.diary_path.read_text().splitlines()
        return max(float(line.split()[2]) for line in lines if line.startswith(f"{name} {what} "))

    def until_started(self, name: str, times: int = 1) -> None:
        until(lambda: self.starts(name) >= times, f"{name} has not started")

    def until_taken(self, job_id: str) -> None:
        until(lambda: self.status(job_id) == "IN_PROGRESS", f"{job_id} was not taken")

    def until_start_is_known(self, job_id: str) -> None:
        """The endpoint has heard that the job has the device: from now on a loss counts."""
        until(lambda: "output" in self.client.status(job_id), "the start was not reported")

    def worker_pids(self) -> list[int]:
        return list(self.endpoint.pools["media"].running().values())

    def signal_workers(self, number: signal.Signals) -> list[int]:
        """Send a signal to the worker processes; returns their ids."""
        pids = self.worker_pids()
        for pid in pids:
            os.kill(pid, number)
        return pids

    def logs(self) -> str:
        return "\n".join(file.read_text() for file in sorted(self.endpoint.logs.glob("*.log")))


def until(condition: Callable[[], Any], failure: str) -> Any:
    """The condition's value once it is true."""
    try:
        return _until(condition, 60.0)
    except AssertionError:
        raise AssertionError(failure) from None


def is_gone(pid: int) -> bool:
    """Whether the process has ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False
