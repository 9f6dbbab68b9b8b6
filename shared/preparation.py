"""What a job needs before its turn on the device: its files here, its models on disk, a place for its result."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Self

from shared import logs
from shared.context import JobContext
from shared.errors import MediaTooLarge
from shared.job import Job
from shared.media.deliver import Deliverer
from shared.media.fetch import Fetcher
from shared.media.source import MediaLimits
from shared.models.catalog import Entry
from shared.models.store import Store
from shared.models.transfer import Transfer
from shared.outgoing import Outgoing
from shared.plan import Plan
from shared.schemas import ModelSource
from shared.settings import Settings


@dataclass(frozen=True)
class Preparation:
    """Prepares jobs beside the device."""

    store: Store
    outgoing: Outgoing
    fetcher: Fetcher
    limits: MediaLimits

    @classmethod
    def from_settings(cls, settings: Settings, store: Store) -> Self:
        """By the limits and places of this machine."""
        fetcher = Fetcher(
            max_bytes=settings.max_media_bytes,
            timeout_s=settings.fetch_timeout_s,
            allow_private_hosts=settings.allow_private_hosts,
        )
        limits = MediaLimits(
            settings.max_media_bytes,
            settings.max_image_pixels,
            settings.max_video_frames,
            settings.max_video_seconds,
        )
        return cls(store, Outgoing(Deliverer.from_settings(settings, fetcher)), fetcher, limits)

    def prepare(self, job: Job, plan: Plan, context: JobContext) -> ModelSource | None:
        """Everything that needs no device: what the job names is checked, fetched and on disk before its turn."""
        self.outgoing.check_places(job, plan)
        self.load_media(plan, job, context)
        self.outgoing.check_room(job, plan)
        for nested in plan.nested:
            if nested.entry and not nested.is_remote:
                self._ensured(nested.entry, job, context)
        return self._ensured(plan.entry, job, context) if plan.entry and not plan.is_remote else None

    def _ensured(self, entry: Entry, job: Job, context: JobContext) -> ModelSource:
        return self.store.ensure(entry, on_download=partial(_downloading, entry, job, context), check=job.check)

    @contextmanager
    def hold(
        self, plan: Plan, source: ModelSource | None, job: Job, context: JobContext
    ) -> Iterator[ModelSource | None]:
        """Keep other workers from evicting the models while the job waits for the device and runs."""

        def held(entry: Entry, found: ModelSource) -> AbstractContextManager[ModelSource]:
            on_download = partial(_downloading, entry, job, context)
            return self.store.hold(entry, found, on_download=on_download, check=job.check)

        with ExitStack() as stack:
            for entry in filter(None, (nested.entry for nested in plan.nested if not nested.is_remote)):
                if found := self.store.find(entry):
                    stack.enter_context(held(entry, found))
            yield stack.enter_context(held(plan.entry, source)) if plan.entry and source else None

    def load_media(self, plan: Plan, job: Job, context: JobContext) -> None:
        """Fetch and check what the parameters name.

        Raises:
            InvalidInput, MediaTooLarge, Cancelled, DeadlineExceeded: and nothing of it is used.
        """
        most, pixels = self.limits.PICTURES * self.limits.max_pixels, 0
        with context.metrics.measure("fetch"):
            for given in plan.media:
                given.load(self.fetcher, self.limits, keep=plan.is_remote)
                job.check()
                pixels += given.pixels
                if pixels > most:
                    raise MediaTooLarge(f"the images have more than {most:,} pixels together (4 x MAX_IMAGE_PIXELS)")
        if plan.handler.check:
            plan.handler.check(plan.params)


def _downloading(entry: Entry, job: Job, context: JobContext, moment: Transfer) -> None:
    """The job waits for a model: steps are bytes."""
    if not moment.total:
        logs.stage("downloading", job.id, model=entry.full_id)
        context.report("downloading")
        return
    eta_s = None if moment.eta_s is None else round(moment.eta_s, 1)
    context.report("downloading", step=moment.done, steps=moment.total, eta_s=eta_s)
