"""Gets a model onto the volume: by a download of this worker, or by waiting for that of another one."""

from collections.abc import Callable
from pathlib import Path

from shared.errors import ModelUnavailable
from shared.models import incoming
from shared.models.cached import folder_name, repo_folder
from shared.models.catalog import COMMIT, Entry
from shared.models.download import Download
from shared.models.flights import Flight
from shared.models.hub import Hub
from shared.models.lease import Lease, LeaseLost, Timing, Waiter
from shared.models.published import write_ref
from shared.models.space import Space, finish_evictions, tidy
from shared.models.transfer import Meter, Transfer
from shared.models.wanted import wanted
from shared.schemas import ModelSource

LOOK_S = 0.2  # how often those who wait look for the model


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
        """The model, by this worker's download or by another's, whichever gets the lease; in a flight's thread.

        Raises:
            ModelUnavailable: it cannot be fetched.
            Abandoned: nobody waits for it any more.
        """
        repo = repo_folder(root, entry.model_id) or root / folder_name(entry.model_id)
        waiter, meter = Waiter(repo, self._timing), Meter(0)
        try:
            while True:
                flight.check()
                if found := self._find(entry):
                    return found
                if found := self._as_holder(entry, repo, waiter.attempt(), flight):
                    return found
                if holder := waiter.holder:
                    meter.at(holder.done, holder.total)
                    flight.moment = meter.read()
                flight.abandoned.wait(LOOK_S)
        except OSError as exc:
            raise ModelUnavailable(
                f"the volume for models cannot be used: {exc.strerror or type(exc).__name__}", reason="volume"
            ) from exc

    def _as_holder(self, entry: Entry, repo: Path, lease: Lease | None, flight: Flight) -> ModelSource | None:
        if lease is None:
            return None
        try:
            with lease:
                finish_evictions(repo, lease)
                incoming.sweep(repo.parent)
                return self._find(entry) or self._downloaded(entry, repo, lease, flight)
        except LeaseLost:
            return None
        finally:
            tidy(repo)

    def _downloaded(self, entry: Entry, repo: Path, lease: Lease, flight: Flight) -> ModelSource:
        files = wanted(self._hub.listing(entry.model_id, entry.revision), entry.files, entry.pickles)
        meter = Meter(files.total())

        def between(moment: Transfer) -> None:
            flight.moment = moment
            flight.check()

        Download(self._hub, files, repo, lease, meter, self._space(repo.parent), between).run()
        if not COMMIT.fullmatch(entry.revision):
            write_ref(repo, entry.revision, files.commit)
        found = self._find(entry)
        if found is None:
            raise ModelUnavailable(f"'{entry.model_id}' lacks files that diffusers needs to load it", reason="format")
        return found
