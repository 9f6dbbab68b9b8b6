"""What Prometheus reads of a worker: its jobs, its device and its cards."""

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from shared import results
from shared.errors import QueueFull
from shared.hardware import Card, Cards
from shared.metrics import JobMetrics
from shared.runner import Runner

BOUNDS_S = (0.001, 0.005, 0.02, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
STAGES = ("fetch", "queue", "load", "run", "encode", "deliver")
UNKNOWN = "unknown"  # the label of what nobody may make a label of
COMPLETED = "completed"


@dataclass
class _Spread:
    """How long a stage took, job by job."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))
    total_s: float = 0.0

    def add(self, seconds: float) -> None:
        """One more job."""
        self.counts[bisect_left(BOUNDS_S, seconds)] += 1
        self.total_s += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """Bounds, and how many jobs took no longer."""
        so_far, found = 0, []
        for bound, count in zip((*map(str, BOUNDS_S), "+Inf"), self.counts, strict=True):
            so_far += count
            found.append((bound, float(so_far)))
        return found


class Telemetry(Collector):
    """Counts a runner's jobs as they end, and looks at the rest when it is asked.

    The jobs are counted here and not by the library's own counters, which take several times as long for a job.
    """

    def __init__(self, runner: Runner, cards: Cards) -> None:
        self._runner = runner
        self._cards = cards
        self._pipelines = frozenset(runner.planner.pipelines)
        self._lock = threading.Lock()
        self._outcomes = Counter({(pipeline, COMPLETED): 0 for pipeline in runner.planner.pipelines})
        self._refusals = Counter({QueueFull.code: 0})
        self._truncated = Counter(dict.fromkeys(runner.planner.pipelines, 0))
        self._spreads: dict[tuple[str, str], _Spread] = {}
        self._registry = CollectorRegistry()  # an own one: two applications in a process must not meet in it
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        runner.observe = self.ended

    def ended(self, pipeline: str, outcome: str, metrics: JobMetrics) -> None:
        """A job has ended; see shared.metrics.Observe."""
        label = pipeline if pipeline in self._pipelines else UNKNOWN
        with self._lock:
            self._outcomes[label, outcome] += 1
            if metrics.noted("truncated_input"):
                self._truncated[label] += 1
            for stage, seconds in metrics.stages():
                if stage in STAGES:
                    self._spread(label, stage).add(seconds)

    def refused(self, code: str) -> None:
        """A request was turned away before it became a job, by an error of that code."""
        with self._lock:
            self._refusals[code] += 1

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """The metrics in the format that an Accept header prefers, and its media type."""
        try:
            encode, media_type = choose_encoder(accept)
        except (TypeError, ValueError):  # the library compares versions, also what is none
            encode, media_type = choose_encoder("")
        return encode(self._registry), media_type

    def collect(self) -> Iterator[Metric]:
        """See prometheus_client.registry.Collector."""
        yield from self._jobs()
        yield from self._load()
        yield from self._models()
        yield from _of_cards(self._cards.read())
        worker = {"version": results.version(), "worker": self._runner.settings.worker_id}
        yield InfoMetricFamily("pilotlight_worker", "Which worker this is.", worker)

    def _spread(self, pipeline: str, stage: str) -> _Spread:
        key = (pipeline, stage)
        if key not in self._spreads:
            self._spreads[key] = _Spread()
        return self._spreads[key]

    def _jobs(self) -> Iterator[Metric]:
        jobs = CounterMetricFamily("pilotlight_jobs", "Jobs that ended, and how.", labels=("pipeline", "outcome"))
        refused = CounterMetricFamily(
            "pilotlight_refused_requests", "Requests that became no job, and why.", labels=("reason",)
        )
        truncated = CounterMetricFamily(
            "pilotlight_truncated_inputs", "Jobs with a file that ended too soon.", labels=("pipeline",)
        )
        stages = HistogramMetricFamily(
            "pilotlight_stage_seconds", "Where the time of jobs went.", labels=("pipeline", "stage")
        )
        with self._lock:
            for (pipeline, outcome), count in self._outcomes.items():
                jobs.add_metric((pipeline, outcome), count)
            for code, count in self._refusals.items():
                refused.add_metric((code,), count)
            for pipeline, count in self._truncated.items():
                truncated.add_metric((pipeline,), count)
            for key, spread in self._spreads.items():
                stages.add_metric(key, spread.buckets(), spread.total_s)
        yield from (jobs, refused, truncated, stages)

    def _load(self) -> Iterator[Metric]:
        running = GaugeMetricFamily(
            "pilotlight_jobs_running", "Jobs that are on the device, or on nodes.", labels=("place",)
        )
        waiting = GaugeMetricFamily(
            "pilotlight_jobs_waiting", "Jobs that wait for that, or for what they need before.", labels=("place",)
        )
        places = {"device": self._runner.backlog.counts(), "nodes": self._runner.forwarder.fleet.counts()}
        for place, (there, before) in places.items():
            running.add_metric((place,), there)
            waiting.add_metric((place,), before)
        yield from (running, waiting)
        yield GaugeMetricFamily(
            "pilotlight_backlog_seconds",
            "Seconds until the device is free; infinite where a job's length is not known.",
            self._runner.backlog.remaining_s(),
        )
        yield GaugeMetricFamily("pilotlight_slots", "Jobs that the device runs at once.", self._runner.lane.slots)

    def _models(self) -> Iterator[Metric]:
        warm = self._runner.pool.warm()
        listed = {entry.full_id for entry in self._runner.planner.catalog.entries}
        taken: Counter[str] = Counter()
        for (_, model_id, _), size in warm.items():
            taken[model_id if model_id in listed else UNKNOWN] += size
        yield GaugeMetricFamily("pilotlight_warm_models", "Models in the device's memory.", len(warm))
        sizes = GaugeMetricFamily(
            "pilotlight_warm_model_bytes", "What each took when it was loaded.", labels=("model",)
        )
        for model_id, size in taken.items():
            sizes.add_metric((model_id,), size)
        starting = GaugeMetricFamily(
            "pilotlight_cold_start_seconds", "Where the time of the start went.", labels=("stage",)
        )
        for stage, seconds in self._runner.starting.stages():
            starting.add_metric((stage,), seconds)
        yield from (sizes, starting)


def _of_cards(cards: dict[int, Card]) -> Iterator[Metric]:
    about = InfoMetricFamily("pilotlight_gpu", "Which cards there are.", labels=("gpu",))
    total = GaugeMetricFamily("pilotlight_gpu_memory_total_bytes", "Memory of a card.", labels=("gpu",))
    free = GaugeMetricFamily("pilotlight_gpu_memory_free_bytes", "What nobody uses of it.", labels=("gpu",))
    used = GaugeMetricFamily("pilotlight_gpu_memory_used_bytes", "What any process uses of it.", labels=("gpu",))
    busy = GaugeMetricFamily("pilotlight_gpu_utilization_ratio", "Share of the time it computes.", labels=("gpu",))
    for number, card in cards.items():
        gpu = (str(number),)
        about.add_metric(gpu, {"id": card.id, "name": card.name})
        if card.memory_total is not None and card.memory_free is not None:
            total.add_metric(gpu, card.memory_total)
            free.add_metric(gpu, card.memory_free)
            used.add_metric(gpu, card.memory_total - card.memory_free)
        if card.utilization_compute is not None:
            busy.add_metric(gpu, card.utilization_compute / 100)
    yield from (about, total, free, used, busy)
