"""Lanes whose device fails as a test wants, and work that holds them."""

import threading
from typing import Any

from shared.errors import Ruin
from shared.job import Job

WAIT_S = 20


class OutOfPaper(RuntimeError):
    """Stands for torch.OutOfMemoryError."""


class Broken(RuntimeError):
    """Stands for a CUDA error."""


def classify(exc: BaseException) -> Ruin | None:
    return "out_of_memory" if isinstance(exc, OutOfPaper) else "device_lost" if isinstance(exc, Broken) else None


class Held:
    """Work that holds the lane until it is let go, and stops when its job is told to."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.running = threading.Event()
        self.let_go = threading.Event()

    def __call__(self) -> str:
        self.running.set()
        while not self.let_go.wait(0.005):
            self.job.check()
        return self.job.id


def job(name: str = "job", **more: Any) -> Job:
    return Job(name, {}, **more)
