"""One job from its input to its result: plan, get the model, run, deliver, sign."""

import gc
import hashlib
import importlib.metadata
import json
import secrets
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

from shared import device as devices
from shared import logs, receipts
from shared.backlog import Backlog
from shared.context import JobContext, NestedContext, Written
from shared.errors import (
    ENDINGS,
    Internal,
    InvalidInput,
    JobError,
    ModelUnavailable,
    ResultTooLarge,
    Ruin,
    Stopped,
    forget_frames,
)
from shared.job import Clock, Job
from shared.lane import Lane
from shared.media.deliver import Deliverer
from shared.media.fetch import Fetcher
from shared.media.image import encode_image, image_inputs, pixels_sha256
from shared.metrics import JobMetrics
from shared.models import readahead
from shared.models.catalog import Entry
from shared.models.pool import Pool
from shared.models.store import Store
from shared.models.transfer import Transfer
from shared.models.volumes import is_networked
from shared.plan import Plan, Planner
from shared.schemas import MEDIA_TYPES, Context, Handler, ImageFormat, Made, ModelSource, Output, Params, Registry
from shared.settings import Settings

BESIDE_OUTPUTS = 2048  # bytes of a serialised result that are neither outputs, metrics nor receipt
MAX_JOBS_AT_ONCE = 64  # prepared or delivered at the same time; the device still takes them one by one


class Runner:
    """Takes jobs to results. Knows no platform: adapters hand it a Job and get a future."""

    def __init__(self, settings: Settings, registry: Registry, *, clock: Clock = time.monotonic) -> None:
        self.settings = settings
        self.registry = registry
        self.planner = Planner(settings, registry)
        self.store = Store.from_settings(settings, self.planner.catalog)
        self.pool = Pool(self.device, on_change=self.store.loaded)
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
        self._deliverer = Deliverer.from_settings(settings, self._fetcher)
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
            job = Job("warm-up", {"pipeline": entry.pipeline, "model_id": entry.model_id, **params})
            result = self._jobs.submit(self._run_logged, job).result()  # not `submit`: its length is not typical
            loading: dict[str, Any] | None = result["metrics"].get("loading")
            return loading
        if handler.load:
            with self.pool.acquire(handler.load, self.store.ensure(entry)) as model:
                self._widen(model)
                logs.stage("loaded", "warm-up", model=entry.model_id)
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
            self._encode_later(plan, metrics),
            self._nested,
            streams=streams,
            room=job.result_limit,
        )
        logs.stage("taken", job.id, pipeline=plan.pipeline, model=plan.model_id)
        self.backlog.away(job.id, away=True)
        source = self._prepare(job, plan, context)
        self.backlog.away(job.id, away=False)
        queued_at = job.clock()
        with self._held(plan, source) as source:
            started_at = self.lane.submit(
                job, lambda: self._on_device(job, plan, source, context, queued_at)
            ).result()
        ended_at = time.time()
        outputs = context.outputs()
        job.cancel.check()  # before anything of it leaves this worker
        receipt = self._receipt(
            job, plan, source, context, outputs, receipts.Times(accepted_at, started_at, ended_at)
        )
        return self._deliver(job, plan, context, outputs, receipt)

    def _prepare(self, job: Job, plan: Plan, context: JobContext) -> ModelSource | None:
        """Everything that needs no device: what the job names is checked, fetched and on disk before its turn."""
        self._deliverer.check(plan.envelope.delivery, job.s3_config, getattr(plan.params, "num_images_per_prompt", 1))
        self._load_media(plan.params, job, context)
        if plan.entry is None:
            return None
        return self.store.ensure(
            plan.entry, on_download=lambda moment: self._downloading(job, plan, context, moment), check=job.check
        )

    def _downloading(self, job: Job, plan: Plan, context: JobContext, moment: Transfer) -> None:
        """The job waits for its model: steps are bytes."""
        if not moment.total:
            logs.stage("downloading", job.id, model=plan.model_id)
            context.report("downloading")
            return
        eta_s = None if moment.eta_s is None else round(moment.eta_s, 1)
        context.report("downloading", step=moment.done, steps=moment.total, eta_s=eta_s)

    def _held(self, plan: Plan, source: ModelSource | None) -> AbstractContextManager[ModelSource | None]:
        """Keep other workers from evicting the model while the job waits for the device and runs."""
        if source is None or plan.entry is None:
            return nullcontext(source)
        return self.store.hold(plan.entry, source)

    def _load_media(self, params: Params, job: Job, context: JobContext) -> None:
        with context.metrics.measure("fetch"):
            for image in image_inputs(params):
                image.load(self._fetcher, self.settings.max_media_bytes, self.settings.max_image_pixels)
                job.check()
                if image.truncated:
                    context.note(truncated_input=True)

    def _on_device(
        self, job: Job, plan: Plan, source: ModelSource | None, context: JobContext, queued_at: float
    ) -> float:
        """Run the handler; on the lane's thread. Returns the wall-clock time of the start."""
        metrics, started_at = context.metrics, time.time()
        if job.deadline is None:  # a second attempt, after out of memory, has waited no longer and gets no more time
            metrics.add("queue", job.clock() - queued_at)
            job.start_clock(self.settings.job_timeout_s)
        self.backlog.started(job.id)
        if self._cold_starts:
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
        context.report("running")
        job.check()
        _run_handler(plan, model, context)
        context.metrics.checked()
        seconds = job.clock() - begun
        context.metrics.add("run", seconds)
        self.backlog.ended(job.id, seconds)
        logs.stage("run", job.id, pipeline=plan.pipeline, model=plan.model_id, seconds=round(seconds, 3))

    def _nested(self, outer: JobContext, pipeline: str, given: dict[str, Any]) -> list[Made]:
        """A pipeline run by another, on the device that the job holds already."""
        plan = self.planner.plan_nested(pipeline, given)
        inner = NestedContext(outer)
        self._load_media(plan.params, outer.job, outer)
        if plan.handler.load is None or plan.entry is None:
            _run_handler(plan, None, inner)
            return inner.made
        source = self.store.find(plan.entry)
        if source is None:  # the device must not wait for a network
            raise ModelUnavailable(f"'{plan.model_id}' must be on the volume before another pipeline can run it")
        with (
            self.store.hold(plan.entry, source) as source,
            self.pool.acquire(plan.handler.load, source) as model,
        ):
            _run_handler(plan, model, inner)
        return inner.made

    def _encode_later(self, plan: Plan, metrics: JobMetrics) -> Callable[[Made], "Future[Output]"]:
        image_format: ImageFormat = getattr(plan.params, "image_format", "png")

        def measured(made: Made) -> Output:
            with metrics.measure("encode"):
                return _encode(made, image_format)

        return lambda made: self._encoders.submit(measured, made)

    def _receipt(
        self,
        job: Job,
        plan: Plan,
        source: ModelSource | None,
        context: JobContext,
        outputs: list[Output],
        times: receipts.Times,
    ) -> dict[str, Any]:
        model = {"id": source.model_id, "revision": source.revision} if source else None
        if plan.handler.stream:
            outputs = [_text_output(str(context.written), context.differs.get("seed"))]
        return self.signer.sign(
            receipts.make(
                job_id=job.id,
                pipeline=plan.pipeline,
                model=model,
                params={**plan.params.as_record(), **context.differs},
                outputs=outputs,
                steps=(context.written.usage or {}).get("completion_tokens", context.steps_done),
                times=times,
                worker=self.settings.runpod_pod_id,
                image_digest=self.settings.image_digest,
                software=_software(torch=plan.handler.torch),
            )
        )

    def _deliver(
        self, job: Job, plan: Plan, context: JobContext, outputs: list[Output], receipt: dict[str, Any]
    ) -> dict[str, Any]:
        rest = {"metrics": context.metrics.as_dict(), "receipt": receipt}
        limit = None if job.result_limit is None else job.result_limit - _json_bytes(rest) - BESIDE_OUTPUTS
        text = _text_result(context.written) if plan.handler.stream else {}
        if text and job.result_limit is not None:
            _check_size({**rest, **text}, job.result_limit)
        context.report("delivering")
        begun = job.clock()
        urls = self._deliverer.deliver(job.id, outputs, plan.envelope.delivery, job.s3_config, limit)
        context.metrics.add("deliver", job.clock() - begun)
        logs.stage("delivered", job.id, outputs=len(outputs), seconds=_since(begun, job))
        images = [output.as_dict(url) for output, url in zip(outputs, urls, strict=True)]
        return {
            **({"images": images} if images else {}),
            **text,
            "metrics": context.metrics.as_dict(),
            "receipt": receipt,
        }


def _internal(job: Job, exc: BaseException) -> Internal:
    error_id = secrets.token_hex(4)
    logs.logger.error("internal error", extra={"fields": {"job": job.id, "error_id": error_id}}, exc_info=exc)
    return Internal(f"an error of this worker; its log has it under {error_id}", error_id=error_id)


def _run_handler(plan: Plan, model: Any, context: Context) -> None:
    for piece in plan.handler.run(model, plan.params, context) or ():
        context.text(piece)


def _text_result(written: Written) -> dict[str, Any]:
    if written.answer is not None:
        return {"answer": written.answer}
    return {"text": str(written), "usage": written.usage, "finish_reason": written.finish_reason}


def _check_size(result: dict[str, Any], limit: int) -> None:
    size = _json_bytes(result)
    if size > limit:
        raise ResultTooLarge(
            f"the answer with its receipt is {size:,} bytes of JSON; the platform carries {limit:,}; ask for less"
        )


def _json_bytes(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=False).encode())


def _text_output(text: str, seed: int | None) -> Output:
    data = text.encode()
    sha256 = hashlib.sha256(data).hexdigest()
    return Output(data, "text/plain", "txt", sha256, pixels_sha256=None, pixels=0, seed=seed, nsfw=False)


def _encode(made: Made, image_format: ImageFormat) -> Output:
    data = encode_image(made.image, image_format)
    return Output(
        data=data,
        media_type=MEDIA_TYPES[image_format],
        extension=image_format,
        sha256=hashlib.sha256(data).hexdigest(),
        pixels_sha256=pixels_sha256(made.image),
        pixels=made.image.width * made.image.height,
        seed=made.seed,
        nsfw=made.nsfw,
    )


@cache
def _software(*, torch: bool) -> dict[str, str]:
    names = ("pilotlight", "torch", "diffusers") if torch else ("pilotlight", "xllamacpp")
    versions = {name: _version(name) for name in names}
    return {name: version for name, version in versions.items() if version}


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:  # ours, where the root is on the path instead of installed
        return None


def _since(begun: float, job: Job) -> float:
    return round(job.clock() - begun, 3)


def _plain(secret: Any) -> str | None:
    return secret.get_secret_value() if secret else None
