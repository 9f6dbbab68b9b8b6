"""Gets a model onto the volume: by a download of this worker, or by waiting for that of another one."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import get_args

from shared.errors import ModelUnavailable
from shared.models import configuration, incoming
from shared.models.cached import folder_name, repo_folder
from shared.models.catalog import COMMIT, TEXT_GENERATION, Entry
from shared.models.diffusion import Task
from shared.models.download import Download
from shared.models.flights import Flight
from shared.models.hub import Hub, Listing
from shared.models.hub_errors import unusable
from shared.models.lease import Lease, LeaseLost, Timing, Waiter
from shared.models.single_file import Kind, is_configuration_file, kind_of
from shared.models.space import Space, finish_evictions, tidy
from shared.models.transfer import Meter, Transfer
from shared.models.wanted import wanted
from shared.schemas import ModelSource

DIFFUSION = get_args(Task)  # the pipelines whose checkpoints may come in one file
LOOK_S = 0.2  # how often those who wait look for the model


@dataclass(frozen=True)
class Order:
    """What is to come onto the volume: `find` looks for it there, `choose` says which files it is.

    `approve` may refuse what has come, in the folder that it is given, before it is published.
    """

    model_id: str
    revision: str
    find: Callable[[], ModelSource | None]
    choose: Callable[[Listing], Listing]
    approve: Callable[[Path], None] = lambda folder: None


class Supply:
    """Downloads from a hub; `find` looks for a model on the volumes."""

    def __init__(
        self,
        hub: Hub,
        find: Callable[[Entry], ModelSource | None],
        space: Callable[[Path], Space],
        timing: Timing,
    ) -> None:
        self._hub = hub
        self._find = find
        self._space = space
        self._timing = timing

    def tidy(self, repo: Path) -> None:
        """Give back a lease whose holder is dead, and finish what it had begun to delete."""
        if lease := Waiter(repo, self._timing).unless_alive():
            with lease:
                finish_evictions(repo, lease)
                incoming.clear(repo)
            tidy(repo)

    def get(self, entry: Entry, root: Path, flight: Flight) -> ModelSource:
        """The model, and the configuration that it needs, by this worker's downloads or by another's, whichever gets
        the lease; in a flight's thread.

        Raises:
            ModelUnavailable: it cannot be fetched.
            Abandoned: nobody waits for it any more.
        """
        source = self._got(self._model(entry), root, flight)
        kind = configuration.needed(source)
        return self._got(self._configuration(entry, kind), root, flight) if kind else source

    def _model(self, entry: Entry) -> Order:
        def approve(folder: Path) -> None:
            arrived = folder / entry.files[0] if entry.files else folder
            if entry.pipeline in DIFFUSION and arrived.is_file():
                kind_of(arrived)

        return Order(entry.model_id, entry.revision, lambda: self._find(entry), partial(chosen, entry=entry), approve)

    def _configuration(self, entry: Entry, kind: Kind) -> Order:
        def find() -> ModelSource | None:
            source = self._find(entry)
            return None if source is None or configuration.needed(source) else source

        def choose(listing: Listing) -> Listing:
            return listing.only([name for name in listing.names() if is_configuration_file(name)])

        return Order(kind.configuration, configuration.REVISION, find, choose)

    def _got(self, order: Order, root: Path, flight: Flight) -> ModelSource:
        repo = repo_folder(root, order.model_id) or root / folder_name(order.model_id)
        waiter, meter = Waiter(repo, self._timing), Meter(0)
        try:
            while True:
                flight.check()
                if found := order.find():
                    return found
                if found := self._as_holder(order, repo, waiter.attempt(), flight):
                    return found
                if holder := waiter.holder:
                    meter.at(holder.done, holder.total)
                    flight.moment = meter.read()
                flight.abandoned.wait(LOOK_S)
        except OSError as exc:
            raise unusable(order.model_id, exc) from exc

    def _as_holder(self, order: Order, repo: Path, lease: Lease | None, flight: Flight) -> ModelSource | None:
        if lease is None:
            return None
        try:
            with lease:
                finish_evictions(repo, lease)
                incoming.sweep(repo.parent)
                return order.find() or self._downloaded(order, repo, lease, flight)
        except LeaseLost:
            return None
        finally:
            tidy(repo)

    def _downloaded(self, order: Order, repo: Path, lease: Lease, flight: Flight) -> ModelSource:
        files = order.choose(self._hub.listing(order.model_id, order.revision))
        meter = Meter(files.total())

        def between(moment: Transfer) -> None:
            flight.moment = moment
            flight.check()

        branch = None if COMMIT.fullmatch(order.revision) else order.revision
        space = self._space(repo.parent)
        Download(self._hub, files, branch, repo, lease, meter, space, between, order.approve).run()
        found = order.find()
        if found is None:
            raise ModelUnavailable(
                f"'{order.model_id}' is not whole on the hub: it lacks files that are needed to load it",
                reason="format",
            )
        return found


def chosen(listing: Listing, entry: Entry) -> Listing:
    """The files of a repository that an entry means, where its pipeline can read them.

    Raises:
        ModelUnavailable: it has none, or of another kind.
    """
    files = wanted(listing, entry.files, entry.pickles)
    is_gguf = any(name.endswith(".gguf") for name in files.names())
    if is_gguf and entry.pipeline in DIFFUSION:
        raise ModelUnavailable(
            f"'{entry.full_id}' is a GGUF, which '{entry.pipeline}' cannot read; name a diffusers checkpoint or a "
            ".safetensors file",
            reason="format",
        )
    if not is_gguf and entry.pipeline == TEXT_GENERATION:
        raise ModelUnavailable(
            f"'{entry.full_id}' has no GGUF, and '{entry.pipeline}' reads nothing else", reason="format"
        )
    return files
