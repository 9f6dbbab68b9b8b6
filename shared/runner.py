"""One job from its input to its result: plan, get the model, run, deliver, sign."""

import contextlib
import gc
import secrets
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from shared import device as devices
from shared import logs, receipts, results
from shared.backlog import Backlog
from shared.context import JobContext, Span
from shared.errors import (
    ENDINGS,
    Internal,
    InvalidInput,
    JobError,
    MediaTooLarge,
    ModelUnavailable,
    Ruin,
    Stopped,
    forget_frames,
)
from shared.job import Clock, Job
from shared.lane import Lane
from shared.media.deliver import Deliverer
from shared.media.fetch import Fetcher
from shared.media.source import MediaLimits, media_inputs
from shared.metrics import JobMetrics
from shared.models import readahead
from shared.models.catalog import Entry
from shared.models.pool import Load, Pool
from shared.models.store import Store
from shared.models.transfer import Transfer
from shared.models.volumes import is_networked
from shared.nested import NestedContext
from shared.outgoing import Outgoing, outputs_of
from shared.plan import Plan, Planner
from shared.schemas import Context, Handler, Made, MadeVideo, ModelSource, Output, Registry
from shared.settings import Settings

MOST_WARM = 8  # models
BESIDE_WEIGHTS = 1.3  # times the weights must be free, for a model to be loaded beside others
FOR_RUNS = {"cuda": 4 * 2**30, "cpu": 2**30, "mps": 2**30}  # and so many bytes, for what a run needs
MAX_JOBS_AT_ONCE = 64  # prepared or delivered at the same time; the device still takes them one by one


class Runner:
    """Takes jobs to results. Knows no platform: adapters hand it a Job and get a future."""

    def __init__(self, settings: Settings, registry: Registry, *, clock: Clock = time.monotonic) -> None:
        self.settings = settings
        self.registry = registry
        self.planner = Planner(settings, registry)
        self.store = Store.from_settings(settings, self.planner.catalog)
        self.pool = Pool(self.device, capacity=MOST_WARM, has_room=_has_room, on_change=self.store.loaded)
        self.lane = Lane(self._classify, self.pool.free)
        self.backlog = Backlog(clock)
        self.signer = receipts.Signer(_plain(settings.receipt_key))
        self._device: devices.Device | None = None
        self.starting = JobMetrics(clock)
        self._cold_starts: list[dict[str, Any]] = []  # one at most, for the first job to take
        self._fetcher = Fetcher(
            max_bytes=settings.max_media_bytes,
            timeout_s=settings.fetch_timeout_s,
            allow_private_hosts=settings.allow_private_hosts,
        )
        self._limits = MediaLimits(
            settings.max_media_bytes,
            settings.max_image_pixels,
            settings.max_video_frames,
            settings.max_video_seconds,
        )
        self._outgoing = Outgoing(Deliverer.from_settings(settings, self._fetcher))
        self._jobs = ThreadPoolExecutor(MAX_JOBS_AT_ONCE, thread_name_prefix="job")
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

    def submit(self, job: Job) -> "Future[dict[str, Any]]":
        """Start on a job; the future ends with its result or with an Ending, and with nothing else."""
        self.backlog.accepted(job.id, self.planner.kind_of(job.input))
        return self._jobs.submit(self._run_logged, job)

    def read_ahead(self) -> None:
        """Start to read the warm models' files into memory, where they lie on a network volume."""
        found = [self.store.find(entry) for entry in self.planner.catalog.entries if entry.warm]
        paths = [source.path for source in found if source and is_networked(source.path)]
        for path in paths:
            kind = devices.pick(self.settings.device, torch_free=True).kind
            readahead.begin(readahead.weights(path, half=kind != "cpu"))

    def warm(self) -> None:
        """Load the catalog's warm models and run each once, then keep the collector off all that is there."""
        gc.disable()
        try:
            begun = self.starting.clock()
            loading = [self._warm(e, self.registry.get(e.pipeline)) for e in self.planner.catalog.entries if e.warm]
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
            found = self.store.ensure(entry)
            with self.store.hold(entry, found) as source, self.pool.acquire(handler.load, source) as model:
                self._widen(model)
                logs.stage("loaded", "warm-up", model=entry.full_id)
                return getattr(model, "loading", None)
        return None

    def _run_logged(self, job: Job) -> dict[str, Any]:
        """Run, log the end, and let nothing but an Ending out: without its frames, which hold what the run held."""
        begun = job.clock()
        try:
            result = self._run(job)
            logs.stage("ended", job.id, code="completed", seconds=_since(begun, job))
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
        try:
            raise forget_frames(ending)
        finally:
            del ending

    def _run(self, job: Job) -> dict[str, Any]:
        accepted_at, metrics = time.time(), JobMetrics(job.clock)
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
            self._nested,
            streams=streams,
            room=job.result_limit,
        )
        logs.stage("taken", job.id, pipeline=plan.pipeline, model=plan.model_id)
        self.backlog.away(job.id, away=True)
        source = self._prepare(job, plan, context)
        self.backlog.away(job.id, away=False)
        queued_at = job.clock()
        with self._held(plan, source, job, context) as source:
            started_at = self.lane.submit(
                job, lambda: self._on_device(job, plan, source, context, queued_at)
            ).result()
        ended_at = time.time()
        outputs = context.outputs()
        kept = context.kept_outputs()
        job.cancel.check()  # before anything of it leaves this worker
        times = receipts.Times(accepted_at, started_at, ended_at)
        receipt = self._receipt(job, plan, source, context, [*outputs_of(kept), *outputs], times)
        return self._outgoing.result(job, plan, context, outputs, kept, receipt)

    def _prepare(self, job: Job, plan: Plan, context: JobContext) -> ModelSource | None:
        """Everything that needs no device: what the job names is checked, fetched and on disk before its turn."""
        self._outgoing.check_places(job, plan)
        self._load_media(plan, job, context)
        self._outgoing.check_room(job, plan)
        for nested in plan.nested:
            if nested.entry:
                self._ensured(nested.entry, job, context)
        return self._ensured(plan.entry, job, context) if plan.entry else None

    def _ensured(self, entry: Entry, job: Job, context: JobContext) -> ModelSource:
        return self.store.ensure(entry, on_download=partial(_downloading, entry, job, context), check=job.check)

    @contextmanager
    def _held(
        self, plan: Plan, source: ModelSource | None, job: Job, context: JobContext
    ) -> Iterator[ModelSource | None]:
        """Keep other workers from evicting the models while the job waits for the device and runs."""

        def hold(entry: Entry, found: ModelSource) -> AbstractContextManager[ModelSource]:
            on_download = partial(_downloading, entry, job, context)
            return self.store.hold(entry, found, on_download=on_download, check=job.check)

        with ExitStack() as stack:
            for entry in filter(None, (nested.entry for nested in plan.nested)):
                if found := self.store.find(entry):
                    stack.enter_context(hold(entry, found))
            yield stack.enter_context(hold(plan.entry, source)) if plan.entry and source else None

    def _load_media(self, plan: Plan, job: Job, context: JobContext) -> None:
        most, pixels = self._limits.PICTURES * self._limits.max_pixels, 0
        with context.metrics.measure("fetch"):
            for given in media_inputs(plan.params):
                given.load(self._fetcher, self._limits)
                job.check()
                pixels += given.pixels
                if pixels > most:
                    raise MediaTooLarge(f"the images have more than {most:,} pixels together (4 x MAX_IMAGE_PIXELS)")
        if plan.handler.check:
            plan.handler.check(plan.params)

    def _on_device(
        self, job: Job, plan: Plan, source: ModelSource | None, context: JobContext, queued_at: float
    ) -> float:
        """Run the handler; on the lane's thread. Returns the wall-clock time of the start."""
        metrics, started_at = context.metrics, time.time()
        if job.deadline is None:  # a second attempt, after out of memory, has waited no longer and gets no more time
            metrics.add("queue", job.clock() - queued_at)
            job.start_clock(self.settings.job_timeout_s)
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
        _run_handler(plan, model, context)
        if any(given.truncated for given in media_inputs(plan.params)):  # of a video known once its frames are read
            context.note(truncated_input=True)
        context.metrics.checked()
        seconds = job.clock() - begun
        context.metrics.add("run", seconds)
        self.backlog.ended(job.id, seconds)
        logs.stage("run", job.id, pipeline=plan.pipeline, model=plan.model_id, seconds=round(seconds, 3))

    def _nested(
        self, outer: JobContext, pipeline: str, given: dict[str, Any], span: Span | None
    ) -> list[Made | MadeVideo]:
        """A pipeline run by another, on the device that the job holds already."""
        plan = self.planner.plan_nested(pipeline, given)
        following = _following(outer.upcoming, plan)
        inner = NestedContext(outer, span, lambda: self._warm_beside(following) if following else None)
        self._load_media(plan, outer.job, outer)
        if plan.handler.load is None or plan.entry is None:
            return self._ran_within(outer, plan, None, None, inner)
        source = self.store.find(plan.entry)
        if source is None:  # the device must not wait for a network
            raise ModelUnavailable(f"'{plan.model_id}' must be on the volume before another pipeline can run it")
        with (
            self.store.hold(plan.entry, source, check=outer.job.check) as source,
            self.pool.acquire(plan.handler.load, source) as model,
        ):
            return self._ran_within(outer, plan, source, model, inner)

    def _ran_within(
        self, outer: JobContext, plan: Plan, source: ModelSource | None, model: Any, inner: NestedContext
    ) -> list[Made | MadeVideo]:
        """What a nested run made, with its parameters; its place in the receipt is that of its start."""
        place: dict[str, Any] = {"pipeline": plan.pipeline, "model": _model_record(source)}
        outer.nested.append(place)
        _run_handler(plan, model, inner)
        place["params"] = {**plan.params.as_record(), **inner.differs}
        return [replace(made, params=made.params or plan.params) for made in inner.made]

    def _warm_beside(self, plan: Plan) -> None:
        """Load the next model while this one works, where memory has room for both; nobody waits for it."""
        source = self.store.find(plan.entry) if plan.entry else None
        load = plan.handler.load
        if source is None or load is None or self.pool.holds(load, source) or not _has_room(self.device(), source):
            return
        threading.Thread(target=self._load_beside, args=(load, source), name="load-beside", daemon=True).start()

    def _load_beside(self, load: Load, source: ModelSource) -> None:
        try:
            with self.pool.acquire(load, source):
                logs.stage("loaded", "beside", model=source.model_id)
        except Exception as exc:  # noqa: BLE001 the run that needs it will say so
            logs.logger.info("not loaded beside", extra={"fields": {"model": source.model_id, "error": repr(exc)}})

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
                model=_model_record(source),
                params={**plan.params.as_record(), **context.differs},
                outputs=outputs,
                steps=(context.written.usage or {}).get("completion_tokens", context.steps_done),
                times=times,
                worker=self.settings.runpod_pod_id,
                image_digest=self.settings.image_digest,
                software=results.software(torch=any(p.handler.torch for p in (plan, *plan.nested))),
                within=context.nested,
            )
        )


def _model_record(source: ModelSource | None) -> dict[str, str] | None:
    return {"id": source.model_id, "revision": source.revision} if source else None


def _following(upcoming: "deque[Plan]", plan: Plan) -> Plan | None:
    """What is to run after this, by the plan of the job; what is done is dropped from it."""
    while upcoming:
        done = upcoming.popleft()
        if (done.pipeline, done.entry) == (plan.pipeline, plan.entry):
            break
    return upcoming[0] if upcoming else None


def _downloading(entry: Entry, job: Job, context: JobContext, moment: Transfer) -> None:
    """The job waits for a model: steps are bytes."""
    if not moment.total:
        logs.stage("downloading", job.id, model=entry.full_id)
        context.report("downloading")
        return
    eta_s = None if moment.eta_s is None else round(moment.eta_s, 1)
    context.report("downloading", step=moment.done, steps=moment.total, eta_s=eta_s)


def _has_room(device: devices.Device, source: ModelSource) -> bool:
    """Whether a model fits beside those that are warm; where it did not, running out of memory lets them go."""
    weights = readahead.size(source.path, half=device.kind != "cpu")
    return device.memory_free() > BESIDE_WEIGHTS * weights + FOR_RUNS[device.kind]


def _internal(job: Job, exc: BaseException) -> Internal:
    error_id = secrets.token_hex(4)
    logs.logger.error("internal error", extra={"fields": {"job": job.id, "error_id": error_id}}, exc_info=exc)
    return Internal(f"an error of this worker; its log has it under {error_id}", error_id=error_id)


def _run_handler(plan: Plan, model: Any, context: Context) -> None:
    for piece in plan.handler.run(model, plan.params, context) or ():
        context.text(piece)


def _since(begun: float, job: Job) -> float:
    return round(job.clock() - begun, 3)


def _plain(secret: Any) -> str | None:
    return secret.get_secret_value() if secret else None
