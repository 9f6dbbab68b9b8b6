"""What a worker tells of itself, by its runner: capabilities, cards, metrics."""

import math
from collections.abc import Mapping
from functools import cache
from typing import Any

from shared import results
from shared.capabilities import Capabilities, Capability, Constraint, OfferedModel, Price, WorkerLoad
from shared.hardware import Cards, GPUComputeInfo, GPUUtilizationInfo, HardwareInformation, HardwareStats
from shared.models.catalog import COMMIT, Entry
from shared.runner import Runner
from shared.schemas import Handler, Params
from shared.telemetry import Telemetry

KEYWORDS = {  # of JSON Schema, and what we call them
    "minimum": "minimum",
    "maximum": "maximum",
    "exclusiveMinimum": "exclusive_minimum",
    "exclusiveMaximum": "exclusive_maximum",
    "multipleOf": "multiple_of",
    "enum": "enum",
}


class AboutRunner:
    """Implements shared.jobs.about.About, and counts the runner's jobs from now on."""

    def __init__(self, runner: Runner, cards: Cards, as_asked: str | None = None) -> None:
        """Args: `as_asked` is the pipeline's name by which it was asked for, where that is another one."""
        self.telemetry = Telemetry(runner, cards)
        self._as_asked = as_asked
        self._runner = runner
        self._cards = cards

    def capabilities(self) -> Capabilities:
        """See shared.jobs.about.About."""
        return capabilities(self._runner)

    def hardware_info(self) -> HardwareInformation:
        """See shared.jobs.about.About."""
        pipeline, model_id = named_first(self._runner)
        cards = {number: GPUComputeInfo.of(card) for number, card in self._cards.read().items()}
        return HardwareInformation(pipeline=self._as_asked or pipeline, model_id=model_id, gpu_info=cards)

    def hardware_stats(self) -> HardwareStats:
        """See shared.jobs.about.About."""
        pipeline, model_id = named_first(self._runner)
        cards = {number: GPUUtilizationInfo.of(card) for number, card in self._cards.read().items()}
        return HardwareStats(pipeline=self._as_asked or pipeline, model_id=model_id, gpu_stats=cards)

    def metrics(self, accept: str) -> tuple[bytes, str]:
        """See shared.jobs.about.About."""
        return self.telemetry.exposition(accept)


def named_first(runner: Runner) -> tuple[str, str]:
    """The pipeline and the model of a worker that is asked for one of each: what its environment names, or the first.

    The model is empty where the pipeline has none.
    """
    pipeline = next(iter(runner.planner.pipelines), "")
    first = next((e.full_id for e in runner.planner.catalog.entries if e.pipeline == pipeline), "")
    return pipeline, runner.settings.model_id or first


def capabilities(runner: Runner) -> Capabilities:
    """What the worker can run, and how busy it is now; never waits for a disk, a network or the device."""
    return Capabilities(
        version=results.version(),
        worker=runner.settings.worker_id,
        load=_load(runner),
        capabilities=[Capability(pipeline=name, models=_models(runner, name)) for name in runner.planner.pipelines],
    )


def _load(runner: Runner) -> WorkerLoad:
    running, waiting = map(sum, zip(runner.backlog.counts(), runner.forwarder.fleet.counts(), strict=True))
    backlog_s = runner.backlog.remaining_s()
    return WorkerLoad(
        running=running,
        waiting=waiting,
        backlog_s=round(backlog_s, 3) if math.isfinite(backlog_s) else None,
        capacity=runner.capacity,
        queue_max=runner.settings.queue_max,
    )


def _models(runner: Runner, pipeline: str) -> list[OfferedModel]:
    handler = runner.registry.get(pipeline)
    entries = {e.full_id: e for e in reversed(runner.planner.catalog.entries) if e.pipeline == pipeline}
    default = next(reversed(entries), None)  # of two with one id, jobs get the first
    return [_offered(runner, handler, entry, default=name == default) for name, entry in reversed(entries.items())]


def _offered(runner: Runner, handler: Handler, entry: Entry, *, default: bool) -> OfferedModel:
    footprint = _footprint(runner, handler, entry)
    return OfferedModel(
        model_id=entry.full_id,
        revision=entry.revision,
        warm=footprint is not None or runner.forwarder.fleet.is_warm((entry.pipeline, entry.full_id)),
        default=default,
        gpu_memory_gb=entry.gpu_memory_gb,
        footprint_bytes=footprint,
        capacity=entry.capacity,
        constraints=constraints(handler.params, entry.defaults),
        price=_price(handler, entry),
    )


def _footprint(runner: Runner, handler: Handler, entry: Entry) -> int | None:
    """The bytes of a warm model; None where it is not warm."""
    for (load, model_id, revision), taken in runner.pool.warm().items():
        is_other = COMMIT.fullmatch(entry.revision) and revision != entry.revision
        if load is handler.load and model_id == entry.full_id and not is_other:
            return taken
    return None


def _price(handler: Handler, entry: Entry) -> Price | None:
    if entry.price_per_unit is None:
        return None
    return Price(
        per_unit=entry.price_per_unit,
        unit="token" if handler.stream else "pixel",
        pixels_per_unit=entry.pixels_per_unit,
        currency=entry.currency,
    )


def constraints(params: type[Params], defaults: Mapping[str, Any]) -> dict[str, Constraint]:
    """What bounds the parameters of a handler; `defaults` are a model's own."""
    return {
        name: Constraint(**bounds, default=defaults.get(name, default))
        for name, (bounds, default) in _bounded(params).items()
    }


@cache
def _bounded(params: type[Params]) -> dict[str, tuple[dict[str, Any], Any]]:
    """Bounds and default of every parameter that is of one kind, or of it and `null`, and has bounds."""
    found = {}
    for name, schema in params.model_json_schema()["properties"].items():
        kinds = [kind for kind in schema.get("anyOf", [schema]) if kind.get("type") != "null"]
        bounds = {ours: kinds[0][keyword] for keyword, ours in KEYWORDS.items() if keyword in kinds[0]}
        if bounds and len(kinds) == 1:
            found[name] = (bounds, schema.get("default"))
    return found
