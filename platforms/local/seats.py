"""A worker of one deployment on one card, and how it is started there."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from platforms.local.deployments import Deployment
from platforms.local.placement import Resident, State
from platforms.local.workers import WorkerPool

ONE_CARD = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}  # so that CUDA numbers the cards as the driver does
BY_LIST = dict.fromkeys(("MODEL_ID", "GGML_REPO", "GGML_FILE"), "")  # MODELS alone says what is served

MakePool = Callable[[str, str, Mapping[str, str]], WorkerPool]


@dataclass(eq=False)
class Seat:
    """A worker process on a card, and those that follow it when it dies; `size` bytes of the card are its own.

    One that drains gets no more jobs for now, one that closes none ever.
    """

    deployment: Deployment
    card: int
    size: int
    pool: WorkerPool
    used_at: float
    draining: bool = False
    closing: bool = False
    has_run: bool = False
    started_at: float = field(init=False)
    ready_at: float | None = None

    def __post_init__(self) -> None:
        self.started_at = self.used_at

    @property
    def name(self) -> str:
        """How the ids of its workers begin."""
        return self.pool.prefix

    def as_resident(self, state: State, patience_s: float) -> Resident:
        """The seat as placement sees it: it has a turn of `patience_s`, or as long as it took to load.

        The turn begins when it is loaded, unless that has failed: others need not wait for a model that never is.
        """
        turn_ends_at = self.started_at if self.pool.failures else math.inf
        if self.ready_at is not None:
            turn_ends_at = self.ready_at + max(patience_s, self.ready_at - self.started_at)
        return Resident(self.name, self.card, self.size, state, self.used_at, turn_ends_at)


class Starter:
    """Starts workers. `envs` are what those of each endpoint get, `folder` takes their lists of models.

    `make_pool` makes a pool of one worker: for this endpoint, of this name, in this environment.
    """

    def __init__(self, envs: Mapping[str, Mapping[str, str]], folder: Path, make_pool: MakePool) -> None:
        self._envs = envs
        self._folder = folder
        self._make_pool = make_pool
        self._numbers = count(1)
        folder.mkdir(exist_ok=True)

    def start(self, deployment: Deployment, card: int, size: int, now: float, failures: int = 0) -> Seat:
        """A worker that loads all its models before it asks for jobs; returns at once.

        `failures` is how many of the deployment have ended before, in a row, without asking for one.
        """
        name = f"{deployment.endpoint}-{next(self._numbers)}-{deployment.name}"
        models = self._folder / f"{name}.json"
        models.write_text(json.dumps([entry.model_dump(mode="json") for entry in deployment.listed()], indent=1))
        env = {**self._envs[deployment.endpoint], **BY_LIST, **ONE_CARD}
        env |= {"MODELS": str(models.resolve()), "CUDA_VISIBLE_DEVICES": str(card)}
        seat = Seat(deployment, card, size, self._make_pool(deployment.endpoint, name, env), now)
        seat.pool.failures = failures
        seat.pool.start()
        return seat
