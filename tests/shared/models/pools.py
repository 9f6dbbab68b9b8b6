"""Models that can be watched, and pools of them."""

from pathlib import Path
from typing import Any

from shared.device import Device
from shared.errors import ModelUnavailable
from shared.models.pool import Pool
from shared.schemas import ModelSource


class Weights:
    """A model that can be watched."""

    def __init__(self, source: ModelSource) -> None:
        self.source = source


class Loader:
    """Counts its loads; `refuse` makes the next ones fail."""

    def __init__(self) -> None:
        self.loaded: list[str] = []
        self.refuse = False

    def __call__(self, source: ModelSource, device: Device) -> Weights:
        self.loaded.append(source.model_id)
        if self.refuse:
            raise ModelUnavailable("no")
        return Weights(source)


def source(model_id: str, revision: str = "main") -> ModelSource:
    return ModelSource(model_id, revision, Path("/nowhere"))


A, B, C = source("a"), source("b"), source("c")


def pool(capacity: int = 1) -> Pool:
    return Pool(lambda: Device("cpu"), capacity=capacity)


def use(pool: Pool, load: Any, *sources: ModelSource) -> None:
    for wanted in sources:
        with pool.acquire(load, wanted) as model:
            assert model.source == wanted
