"""The models of one worker: found on its volumes without asking anybody, else downloaded once for all of them."""

import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Self

from shared.errors import ModelUnavailable
from shared.models import configuration, inventory
from shared.models.cached import snapshot_of, why_not
from shared.models.catalog import LOCAL, Catalog, Entry
from shared.models.checks import Damaged
from shared.models.flights import Flights
from shared.models.folders import in_folder
from shared.models.hub import Hub
from shared.models.inventory import Stored
from shared.models.lease import Timing, read_holder
from shared.models.pins import Pins
from shared.models.published import markers
from shared.models.readers import Readers
from shared.models.repair import Repair
from shared.models.single_file import lacking
from shared.models.space import Published, Space, touch_used
from shared.models.supply import Supply, chosen
from shared.models.transfer import Transfer
from shared.schemas import ModelSource
from shared.settings import Settings

DEMO_MODELS = Path(__file__).parents[2] / "templates" / "demo_models"
RUNPOD_CACHE = Path("/runpod-volume/huggingface-cache/hub")  # also where RunPod puts its cached models, lower-cased
CONTAINER_CACHE = Path("/models")
WITHOUT_HUB = ("unreachable", "offline")


class Store:
    """Finds a model in its roots, read in order, and downloads it into the first that can be written."""

    def __init__(
        self,
        model_dir: Path | None = None,
        *,
        token: str | None = None,
        volumes: Sequence[Path] = (RUNPOD_CACHE, CONTAINER_CACHE),
        hub_url: str | None = None,
        max_bytes: int | None = None,
        pinned: Collection[tuple[str, str]] = (),
        timing: Timing = Timing(),
    ) -> None:
        """Args: `volumes` are read after `model_dir`; `hub_url` is where to download, by default HF_ENDPOINT.

        `max_bytes` is what the models that are downloaded may take together; the `pinned` ones, by id and commit,
        are never evicted for others.
        """
        self._given = [model_dir] if model_dir else []
        self._volumes = list(volumes)
        self._timing = timing
        self._is_pinned = Pins(pinned, self.roots)
        self._flights = Flights()
        self._readers = Readers()
        self._space = partial(
            Space, readers=self._readers, max_bytes=max_bytes, is_pinned=self._is_pinned, timing=timing
        )
        self._hub = Hub(hub_url, token)
        self._supply = Supply(self._hub, self.find, self._space, timing)

    @classmethod
    def from_settings(cls, settings: Settings, catalog: Catalog) -> Self:
        """The store of this machine; what the catalog pins is never evicted for others."""
        return cls(
            settings.model_dir,
            token=settings.hf_token.get_secret_value() if settings.hf_token else None,
            max_bytes=None if settings.models_max_gb is None else int(settings.models_max_gb * 10**9),
            pinned=[(e.model_id, e.revision) for e in catalog.entries if e.pinned],
        )

    def roots(self) -> list[Path]:
        """The folders that may hold a Hugging Face cache, in the order in which they are read."""
        from huggingface_hub.constants import HF_HUB_CACHE

        return [*self._given, *self._volumes, Path(HF_HUB_CACHE)]

    def find(self, entry: Entry) -> ModelSource | None:
        """The model, if it is here and whole; asks nobody."""
        if entry.model_id.startswith("demo/"):
            return in_folder(entry, DEMO_MODELS / entry.model_id.removeprefix("demo/"))
        if entry.model_id.startswith(("/", "./", "../")):
            source = in_folder(entry, Path(entry.model_id))
            return source and configuration.attached(source, self.roots())
        for root in self.roots():
            if snapshot := snapshot_of(root, entry):
                touch_used(snapshot.parent.parent, snapshot.name)
                path = snapshot / entry.files[0] if entry.files else snapshot
                source = ModelSource(entry.full_id, snapshot.name, path, entry.loading())
                return configuration.attached(source, self.roots())
        return None

    def ensure(
        self,
        entry: Entry,
        *,
        on_download: Callable[[Transfer], None] = lambda moment: None,
        check: Callable[[], None] = lambda: None,
    ) -> ModelSource:
        """The model, downloaded first if it has to be; `on_download` is told now and then how far that is.

        `check` may raise, and ends the waiting; the download goes on as long as another job of this process waits.

        Raises:
            ModelUnavailable: it is not here, and cannot be fetched; its detail has the `reason`.
        """
        found = self.find(entry)
        kind = configuration.needed(found) if found else None
        if found and not kind:
            self._tidy(found)
            return found
        if not found:
            _must_be_of_the_hub(entry)
        key = entry.model_dump_json(include={"pipeline", "model_id", "revision", "files", "pickles", "options"})
        try:
            self._hub.check_online(kind.configuration if kind else entry.model_id)
            root = self.write_root()
            source: ModelSource = self._flights.join(
                key, lambda flight: self._supply.get(entry, root, flight), on_progress=on_download, check=check
            )
        except ModelUnavailable as exc:
            raise self._explained(entry, exc) from exc
        self._tidy(source)
        return source

    @contextmanager
    def hold(
        self,
        entry: Entry,
        source: ModelSource,
        *,
        on_download: Callable[[Transfer], None] = lambda moment: None,
        check: Callable[[], None] = lambda: None,
    ) -> Iterator[ModelSource]:
        """The model, found again if it was evicted just now, and within the block by nobody; else as `ensure`."""
        while True:
            with ExitStack() as held:
                places = self._places(source)
                for place in places:
                    held.enter_context(self._readers.hold(*place))
                # looked at after others can see that it is read
                if not places or self.find(entry) == source:
                    yield source
                    return
            source = self.ensure(entry, on_download=on_download, check=check)

    def loaded(self, sources: Iterable[ModelSource]) -> None:
        """These models are on the device now, and no others: nobody on the volume may evict them."""
        self._readers.loaded([place for source in sources for place in self._places(source)])

    def check(self, entry: Entry) -> None:
        """Whether the model is here, or the hub says that it has it; downloads nothing.

        Raises:
            ModelUnavailable: neither.
        """
        if not self.find(entry):
            _must_be_of_the_hub(entry)
            chosen(self._hub.listing(entry.model_id, entry.revision), entry)

    def write_root(self) -> Path:
        """The first root that can be written; a volume that is not mounted is passed over, not made up.

        Raises:
            ModelUnavailable: there is none.
        """
        for root in self.roots():
            if root in self._volumes and not Path(*root.parts[:2]).is_dir():
                continue
            try:
                root.mkdir(parents=True, exist_ok=True)
            except OSError:
                continue
            if os.access(root, os.W_OK):
                return root
        raise ModelUnavailable("no folder for models can be written; set MODEL_DIR")

    def stored(self) -> list[Stored]:
        """Every model in every root, whole or not."""
        return inventory.stored(self.roots(), self._is_pinned, time.time())

    def verify(
        self, model: Stored, *, on_progress: Callable[[Transfer], None] = lambda moment: None
    ) -> list[Damaged]:
        """The files of a model that differ from the hub's, by hash; reads all of it, and changes nothing."""
        return inventory.damaged_files(model, on_progress)

    def repair(
        self,
        model: Stored,
        damaged: Iterable[Damaged],
        *,
        on_download: Callable[[Transfer], None] = lambda moment: None,
    ) -> None:
        """Fetch damaged files again, each of which stays until the new one is here.

        Raises:
            ModelUnavailable: they cannot be had, or the model is another tool's to repair.
        """
        if not model.ours:
            raise ModelUnavailable(
                f"'{model.model_id}' was downloaded by another tool; delete it there", reason="foreign"
            )
        self._hub.check_online(model.model_id)
        names = frozenset(damage.name for damage in damaged)
        repair = Repair(self._hub, model.repo, model.revision, names, self._space, self._timing)
        key = (model.path, names)
        self._flights.join(key, repair.run, on_progress=on_download, check=lambda: None)

    def evict(self, model: Stored) -> bool:
        """Delete a model; False where it is not ours, pinned, in use, or being worked on."""
        space = self._space(model.repo.parent)
        found = [m for m in markers(model.repo) if m.commit == model.revision]
        return any(space.evict(Published(model.repo, marker)) for marker in found)

    def close(self) -> None:
        """End downloads that go on, and let others evict what this process read."""
        self._flights.close()
        self._readers.close()

    def _tidy(self, source: ModelSource) -> None:
        """Where a worker was killed just after it had published the model, its lease is still there."""
        for repo in {repo for repo, _ in self._places(source)}:
            self._tidy_repo(repo)

    def _tidy_repo(self, repo: Path) -> None:
        if read_holder(repo):
            self._flights.start(repo, lambda flight: self._supply.tidy(repo))

    def _places(self, source: ModelSource) -> list[tuple[Path, str]]:
        """The folders and commits in caches of a model and of its configuration; none of what is the user's own."""
        parts = [(source.path, source.revision)]
        if "config_revision" in source.options:
            parts.append((Path(source.options["config"]), source.options["config_revision"]))
        return [
            (folder.parent.parent, revision)
            for path, revision in parts
            for folder in (path, *path.parents)
            if folder.parent.name == "snapshots" and folder.name == revision
        ]

    def _explained(self, entry: Entry, exc: ModelUnavailable) -> ModelUnavailable:
        """The error, with the model that lacks its configuration, or with what is on the volume instead where the hub
        was the reason."""
        if (found := self.find(entry)) and (kind := configuration.needed(found)):
            return ModelUnavailable(f"{lacking(found, kind).message}; {exc.message}", **exc.detail)
        wrong = next((why for root in self.roots() if (why := why_not(root, entry))), "")
        here = [m.model_id for m in self.stored() if m.complete] if exc.detail.get("reason") in WITHOUT_HUB else []
        more = f"; on the volume it is damaged: {wrong}" if wrong else ""
        more += f"; on the volume: {', '.join(dict.fromkeys(here[:8]))}" if here else ""
        return ModelUnavailable(exc.message + more, **exc.detail)


def _must_be_of_the_hub(entry: Entry) -> None:
    if entry.model_id.startswith(LOCAL):
        raise ModelUnavailable(f"model '{entry.model_id}' is not here, or is not whole")
