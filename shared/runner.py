"""One job from its input to its result: plan, get the model, run, deliver, sign."""

import contextlib
import gc
import secrets
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

from shared import ahead, logs, receipts, results
from shared import device as devices
from shared.backlog import Backlog
from shared.context import JobContext
from shared.errors import (
    ENDINGS,
    Internal,
    InvalidInput,
    JobError,
    Ruin,
    Stopped,
    forget_frames,
)
from shared.job import Clock, Job
from shared.lane import Lane
from shared.metrics import JobMetrics, Observe, unobserved
from shared.models import readahead
from shared.models.catalog import Entry
from shared.models.pool import Load, Pool
from shared.models.store import Store
from shared.models.volumes import is_networked
from shared.nesting import Nesting
from shared.nodes import accounts
from shared.nodes.forwarding import Forwarder
from shared.outgoing import outputs_of
from shared.plan import Plan, Planner, run_handler
from shared.preparation import Preparation
from shared.schemas import Handler, ModelSource, Output, Registry
from shared.settings import Settings

MOST_WARM = 8  # models
BESIDE_WEIGHTS = 1.3  # times the weights must be free, for a model to be loaded beside others
FOR_RUNS = {"cuda": 4 * 2**30, "cpu": 2**30, "mps": 2**30}  # and so many bytes, for what a run needs
MAX_JOBS_AT_ONCE = 64  # prepared or delivered at the same time; the device still takes them one by one
MAX_FORWARDED = 256  # that nodes run, or that wait for one


class Runner:
    """Takes jobs to results. Knows no platform: adapters hand it a Job and get a future.

    `store` is where models are, by default what the settings say. `observe` may be set to a function that is told of
    every job's end.
    """

    def __init__(
        self, settings: Settings, registry: Registry, *, store: Store | None = None, clock: Clock = time.monotonic
    ) -> None:
        self.settings = settings
        self.registry = registry
        self.planner = Planner(settings, registry)
        self.store = store or Store.from_settings(settings, self.planner.catalog)
        self.pool = Pool(self.device, capacity=MOST_WARM, has_room=_has_room, on_change=self.store.loaded)
        self.lane = Lane(self._classify, self.pool.free)
        self.backlog = Backlog(clock)
        self.signer = receipts.Signer(_plain(settings.receipt_key))
        self.observe: Observe = unobserved
        self._device: devices.Device | None = None
        self.starting = JobMetrics(clock)
        self._cold_starts: list[dict[str, Any]] = []  # one at most, for the first job to take
        self._ahead = ahead.Ahead()
        self._placed: list[dict[str, Any]] = []  # what models that were read ahead tell, until `warm` does
        self._preparation = Preparation.from_settings(settings, self.store)
        self._outgoing = self._preparation.outgoing
        self.forwarder = Forwarder.of_entries(self.planner.remote, settings.job_timeout_s, clock)
        self._nesting = Nesting(
            self.planner,
            self._preparation,
            self.pool,
            self.lane,
            self.forwarder,
            lambda source: _has_room(self.device(), source),
        )
        self._jobs = ThreadPoolExecutor(MAX_JOBS_AT_ONCE, thread_name_prefix="job")
        self._forwarded = ThreadPoolExecutor(MAX_FORWARDED, thread_name_prefix="forwarded")
        self._encoders = ThreadPoolExecutor(2, thread_name_prefix="encode")

    def _classify(self, exc: BaseException) -> Ruin | None:
        if isinstance(exc, ENDINGS):
            return None
        ruin = devices.classify(exc)
        if ruin is None and self._device is not None and devices.is_lost(self._device):
            return "device_lost"
        return ruin

    def device(self) -> devices.Device:
        """The device, chosen when the first model wants it: a worker without models never imports torch."""
        if self._device is None:
            with self.starting.measure("device"):
                self._device = devices.pick(self.settings.device, torch_free=self.planner.torch_free)
        return self._device

    @property
    def capacity(self) -> int:
        """How many jobs run at once: on the device, and on nodes."""
        return self.lane.slots + self.forwarder.fleet.capacity()

    def submit(self, job: Job) -> "Future[dict[str, Any]]":
        """Start on a job; the future ends with its result or with an Ending, and with nothing else."""
        if self.planner.is_for_a_node(job.input):
            self.backlog.ended(job.id)  # who took the job may have counted it
            return self._forwarded.submit(self._run_logged, job, self.observe)
        self.backlog.accepted(job.id, self.planner.kind_of(job.input))
        return self._jobs.submit(self._run_logged, job, self.observe)

    def read_ahead(self) -> None:
        """Start to read the warm models' files into memory, where they lie on a network volume."""
        found = [self.store.find(entry) for entry in self.planner.catalog.local if entry.warm]
        paths = [source.path for source in found if source and is_networked(source.path)]
        for path in paths:
            kind = devices.pick(self.settings.device, torch_free=True).kind
            readahead.begin(readahead.weights(path, half=kind != "cpu"))

    @property
    def _warm_entries(self) -> list[tuple[Entry, Handler]]:
        return [(entry, self.registry.get(entry.pipeline)) for entry in self.planner.catalog.local if entry.warm]

    def load_ahead(self, kind: devices.Kind) -> None:
        """Before there is a device: read the warm models on the CPU, for one of that kind.

        For a memory snapshot of this process, in whose copies `place_ahead` comes first. It asks nothing of CUDA,
        which would remember that there is no card; what cannot be read is left for `warm`.
        """
        self._ahead.read(self._warm_entries, self.store.find, kind)

    def place_ahead(self) -> None:
        """In a copy of a snapshot, before `warm`: seed anew, and move what was read ahead to the device."""
        ahead.reseed()
        begun = self.starting.clock()
        self._placed = self.lane.run(Job("restore", {}), partial(self._ahead.place, self.pool, self.device))
        self.starting.add("place", self.starting.clock() - begun)

    def warm(self) -> None:
        """Load the catalog's warm models and run each once, then keep the collector off all that is there."""
        gc.disable()
        try:
            begun = self.starting.clock()
            loading = [*self._placed, *(self._warm(*warm) for warm in self._warm_entries)]
            self._placed = []
            self.starting.add("warm", self.starting.clock() - begun)
        finally:
            # not collected first: what a start leaves are 7 MB, and to find them takes 0.3 s
            gc.freeze()
            gc.enable()
        facts = {**self.starting.seconds(), "models": [found for found in loading if found]}
        logs.logger.info("warm", extra={"fields": facts})
        self._cold_starts.append(facts)

    def _warm(self, entry: Entry, handler: Handler) -> dict[str, Any] | None:
        """Load a model and run it once; returns what its loader tells of the time that it took."""
        if handler.warmup:
            params = {**entry.defaults, **handler.warmup}
            job = Job("warm-up", {"pipeline": entry.pipeline, "model_id": entry.full_id, **params})
            result = self._jobs.submit(self._run_logged, job).result()  # not `submit`: its length is not typical
            loading: dict[str, Any] | None = result["metrics"].get("loading")
            return loading
        if handler.load:
            found, job = self.store.ensure(entry), Job("warm-up", {})
            with self.store.hold(entry, found) as source:
                return self.lane.run(job, partial(self._loaded, handler.load, source))
        return None

    def _loaded(self, load: Load, source: ModelSource) -> dict[str, Any] | None:
        """Load a model without running it; on the lane's thread."""
        is_cold = not self.pool.holds(load, source)
        with self.pool.acquire(load, source) as model:
            self._widen(model)
            logs.stage("loaded", "warm-up", model=source.model_id)
            return getattr(model, "loading", None) if is_cold else None

    def warm_model(self, pipeline: str, model_id: str | None) -> "Future[None]":
        """Load a model ahead of its first job, and run it once; the future ends when that is done, or in an Ending.

        It takes its turn on the device as jobs do. What nodes run, and pipelines without a model, need nothing.

        Raises:
            NotFound, InvalidInput: this worker has no such pipeline or model.
        """
        handler = self.registry.get(pipeline)
        if pipeline not in self.planner.pipelines:
            served = ", ".join(self.planner.pipelines)
            raise InvalidInput(f"this worker does not serve '{pipeline}'; it serves: {served}")
        entry = self.planner.catalog.resolve(pipeline, model_id) if handler.load else None
        return self._jobs.submit(self._warm_ahead, entry, handler)

    def _warm_ahead(self, entry: Entry | None, handler: Handler) -> None:
        if entry is None or entry.is_remote or self._is_warm(entry, handler):
            return
        try:
            self._warm(entry, handler)
        except ENDINGS:
            raise
        except BaseException as exc:  # noqa: BLE001 logged here, hidden from the caller
            raise _internal(Job("warm-up", {}), exc) from None

    def _is_warm(self, entry: Entry, handler: Handler) -> bool:
        source = self.store.find(entry)
        return bool(source and handler.load and self.pool.holds(handler.load, source))

    def _run_logged(self, job: Job, observe: Observe = unobserved) -> dict[str, Any]:
        """Run, log the end, and let nothing but an Ending out: without its frames, which hold what the run held."""
        begun, kind, metrics = job.clock(), self.planner.kind_of(job.input), JobMetrics(job.clock)
        try:
            result = self._run(job, metrics)
            logs.stage("ended", job.id, code="completed", seconds=_since(begun, job))
            observe(kind, "completed", metrics)
            return result
        except ENDINGS as exc:
            ending: JobError | Stopped = exc
        except BaseException as exc:  # noqa: BLE001 logged here, hidden from the caller
            ending = _internal(job, exc)
        finally:
            self.backlog.ended(job.id)
        # a message about the input may repeat what was put into the wrong field
        reason = None if isinstance(ending, InvalidInput) else ending.message
        logs.stage("ended", job.id, code=ending.code, seconds=_since(begun, job), reason=reason)
        observe(kind, ending.code, metrics)
        try:
            raise forget_frames(ending)
        finally:
            del ending

    def _run(self, job: Job, metrics: JobMetrics) -> dict[str, Any]:
        accepted_at = time.time()
        if models := self.planner.openai_models(job.input):
            return {"answer": models}
        plan = self.planner.plan(job.input)
        streams = plan.handler.stream and getattr(plan.params, "stream", True)
        context = JobContext(
            job,
            metrics,
            self.backlog,
            results.JobEncoders(
                plan.params,
                metrics,
                self._encoders,
                self._outgoing.most_bytes(job, plan),
                lambda outputs, first: self._outgoing.early(job, plan, outputs, first),
            ),
            self._nesting.run,
            streams=streams,
            room=job.result_limit,
        )
        logs.stage("taken", job.id, pipeline=plan.pipeline, model=plan.model_id)
        self.backlog.away(job.id, away=True)
        source = self._preparation.prepare(job, plan, context)
        if plan.is_remote:
            return self._forward(job, plan, context, accepted_at)
        self.backlog.away(job.id, away=False)
        queued_at = job.clock()
        with self._preparation.hold(plan, source, job, context) as source:
            work = partial(self._on_device, job, plan, source, context, queued_at)
            started_at = self.lane.run(job, work, here=not plan.needs_torch) if plan.needs_device else work()
        ended_at = time.time()
        outputs = context.outputs()
        kept = context.kept_outputs()
        job.cancel.check()  # before anything of it leaves this worker
        times = receipts.Times(accepted_at, started_at, ended_at)
        receipt = self._receipt(job, plan, source, context, [*outputs_of(kept), *outputs], times)
        return self._outgoing.result(job, plan, context, outputs, kept, receipt)

    def _forward(self, job: Job, plan: Plan, context: JobContext, accepted_at: float) -> dict[str, Any]:
        """Let a node run the job, which is checked and has its files; the device has nothing to do with it."""
        begun, sent_at = job.clock(), time.time()
        answer = self.forwarder.run(job, plan, context)
        times = receipts.Times(accepted_at, sent_at + answer.waited_s, time.time())
        context.metrics.add("queue", answer.waited_s)
        context.metrics.add("run", job.clock() - begun - answer.waited_s)
        context.note(node=answer.node, node_metrics=answer.metrics)
        job.cancel.check()  # before anything of it leaves this worker
        receipt = self.signer.sign(accounts.receipt(job, plan, answer, context.written, times, self.settings))
        result = {**self._outgoing.result(job, plan, context, answer.outputs, [], receipt), **answer.shown}
        if job.result_limit is not None and answer.shown:
            results.check_size(result, job.result_limit)
        return result

    def _on_device(
        self, job: Job, plan: Plan, source: ModelSource | None, context: JobContext, queued_at: float
    ) -> float:
        """Run the handler; on the lane's thread. Returns the wall-clock time of the start."""
        metrics, started_at = context.metrics, time.time()
        if job.deadline is None:  # a second attempt, after out of memory, has waited no longer and gets no more time
            metrics.add("queue", job.clock() - queued_at)
            job.start_clock((plan.entry and plan.entry.timeout_s) or self.settings.job_timeout_s)
        self.backlog.started(job.id)
        with contextlib.suppress(IndexError):  # another job has told of it, perhaps this moment
            metrics.note(cold_start=self._cold_starts.pop())
        handler = plan.handler
        if handler.load is None or source is None:
            self._measured_run(job, plan, None, context)
            return started_at
        is_cold = not self.pool.holds(handler.load, source)
        if is_cold:
            context.report("loading")
        begun = job.clock()
        with self.pool.acquire(handler.load, source, check=job.check) as model:
            metrics.add("load", job.clock() - begun)
            if is_cold and (loading := getattr(model, "loading", None)):
                metrics.note(loading=loading)
            logs.stage("loaded", job.id, model=source.model_id, seconds=_since(begun, job))
            self._widen(model)
            self.device().reset_peak()
            self._measured_run(job, plan, model, context)
            metrics.note(peak_memory_bytes=self.device().peak_memory())
        return started_at

    def _widen(self, model: Any) -> None:
        """Let as many jobs in as the model serves at once, where all that this worker runs allows it."""
        slots = getattr(model, "slots", 1)
        if slots > self.lane.slots and self.planner.concurrent:
            self.lane.widen(slots)
            self.backlog.slots = slots

    def _measured_run(self, job: Job, plan: Plan, model: Any, context: JobContext) -> None:
        begun = job.clock()
        context.begin()
        context.upcoming = deque(plan.nested)
        context.report("running")
        job.check()
        try:
            run_handler(plan, model, context)
        finally:
            seconds = job.clock() - begun
            context.metrics.add("run", seconds)  # also of a run that failed: the device was busy with it
        if any(given.truncated for given in plan.media):  # of a video known once its frames are read
            context.note(truncated_input=True)
        context.metrics.checked()
        self.backlog.ended(job.id, seconds)
        logs.stage("run", job.id, pipeline=plan.pipeline, model=plan.model_id, seconds=round(seconds, 3))

    def _receipt(
        self,
        job: Job,
        plan: Plan,
        source: ModelSource | None,
        context: JobContext,
        outputs: list[Output],
        times: receipts.Times,
    ) -> dict[str, Any]:
        if plan.handler.stream:
            outputs = [results.text_output(str(context.written), context.differs.get("seed"))]
        return self.signer.sign(
            receipts.make(
                job_id=job.id,
                pipeline=plan.pipeline,
                model=receipts.model_record(source),
                params={**plan.params.as_record(), **context.differs},
                outputs=outputs,
                steps=(context.written.usage or {}).get("completion_tokens", context.steps_done),
                times=times,
                worker=self.settings.worker_id,
                image_digest=self.settings.image_digest,
                software=results.software(torch=plan.needs_torch),
                within=context.nested,
            )
        )


def _has_room(device: devices.Device, source: ModelSource) -> bool:
    """Whether a model fits beside those that are warm; where it did not, running out of memory lets them go."""
    weights = readahead.size(source.path, half=device.kind != "cpu")
    return device.memory_free() > BESIDE_WEIGHTS * weights + FOR_RUNS[device.kind]


def _internal(job: Job, exc: BaseException) -> Internal:
    error_id = secrets.token_hex(4)
    logs.logger.error("internal error", extra={"fields": {"job": job.id, "error_id": error_id}}, exc_info=exc)
    return Internal(f"an error of this worker; its log has it under {error_id}", error_id=error_id)


def _since(begun: float, job: Job) -> float:
    return round(job.clock() - begun, 3)


def _plain(secret: Any) -> str | None:
    return secret.get_secret_value() if secret else None
