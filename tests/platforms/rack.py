"""Cards that a test fills, and an endpoint that places torch-free workers on them."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import requests

from platforms.local.agenda import Timing
from platforms.local.fleet import Fleet, Placing
from platforms.local.gpus import Chosen, Gpu
from platforms.local.seats import Seat
from platforms.local.up import LocalEndpoint
from tests.platforms.lab import Bench, until
from tests.shared.models.folders import write_files

HANDLERS = Path(__file__).parent / "managed_handlers"
GB = 10**9
LIGHT = (sys.executable, str(Path(__file__).with_name("light_worker.py")))
QUICK = Timing(look_s=0.05, patience_s=0.5, crowded_s=0.5, spread_s=0.2)


class Rack:
    """Implements gpus.Inventory: cards of so many GB, what other programs hold of them, and what processes do."""

    def __init__(self, *totals_gb: float) -> None:
        self.totals = [int(gb * GB) for gb in totals_gb]
        self.foreign = [0] * len(totals_gb)
        self.processes: list[dict[int, int]] = [{} for _ in totals_gb]

    def read(self) -> list[Gpu]:
        return [
            Gpu(n, f"Card {n}", total, self.foreign[n] + sum(self.processes[n].values()), dict(self.processes[n]))
            for n, total in enumerate(self.totals)
        ]


class FleetLab(Bench):
    """Endpoint `media` on a rack; each model is a folder of a few bytes, named by a letter or a word."""

    def __init__(self, folder: Path, rack: Rack, models: Sequence[dict[str, Any]], **more: Any) -> None:
        self.folder = folder
        self.rack = rack
        usual = {"pipeline": "census", "gpu_memory_gb": 4}
        entries = [{**usual, **given, "model_id": self.model(given["model_id"])} for given in models]
        (folder / "models.json").write_text(json.dumps(entries))
        endpoint = LocalEndpoint(
            folder / "data",
            env={"HANDLERS": str(HANDLERS), "MODELS": str(folder / "models.json"), **more.pop("env", {})},
            placing=Placing(Chosen(rack, tuple(range(len(rack.totals)))), more.pop("timing", QUICK)),
            command=more.pop("command", LIGHT),
            **more,
        )
        super().__init__(endpoint)

    def model(self, name: str) -> str:
        """The id of a model, whose folder is made."""
        return str(write_files(self.folder / name))

    @property
    def fleet(self) -> Fleet:
        assert self.endpoint.fleet is not None
        return self.endpoint.fleet

    def submit(self, model: str | None, **more: Any) -> str:
        named = {} if model is None else {"model_id": self.model(model)}
        return self.client.submit({"pipeline": "census", **named, **more})

    def census(self, model: str | None, **more: Any) -> dict[str, Any]:
        """Run a job; which process ran it, and where."""
        return self.told(self.submit(model, **more))

    def told(self, job_id: str) -> dict[str, Any]:
        return dict(self.client.wait(job_id)["metrics"])

    def seats(self, model: str) -> list[Seat]:
        """The workers of one model, and of chains with it, as long as their processes are there."""
        named = f"{self.folder / model}@main"
        return [seat for seat in list(self.fleet.seats) if named in seat.deployment.models]

    def until_gone(self, model: str) -> None:
        until(lambda: not self.seats(model), f"the worker of {model} stays")

    def pid(self, model: str) -> int:
        """The process that serves a model."""
        (seat,) = self.seats(model)
        (pid,) = until(lambda: list(seat.pool.running().values()), f"{model} has no process")
        return int(pid)

    def warm(self, body: Any, wait_ms: int = 30_000, key: str | None = None) -> requests.Response:
        headers = {"Authorization": f"Bearer {key or self.endpoint.key}"}
        return requests.post(
            f"{self.endpoint.url}/media/warm", json=body, params={"wait": wait_ms}, headers=headers, timeout=60
        )
