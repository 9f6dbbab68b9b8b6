"""Fetches the damaged files of a published model again, by its marker, and puts each in the place of the old one."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from shared.errors import ModelUnavailable
from shared.models.checks import Record
from shared.models.download import Download
from shared.models.flights import Flight
from shared.models.hub import Hub, Listing
from shared.models.hub_errors import unusable
from shared.models.lease import Lease, LeaseLost, Timing, Waiter
from shared.models.published import Marker, model_id_of, read_marker, snapshot_path
from shared.models.space import Space, finish_evictions, tidy
from shared.models.transfer import Meter, Transfer
from shared.models.walk import files_below

LOOK_S = 0.2  # how often it is looked whether another still works on the model


class _Again(Download):
    """A download for which no file of the snapshot counts as being there; until it has come, that stays."""

    def _present(self) -> dict[str, Record]:
        return {}


@dataclass(frozen=True)
class Repair:
    """These files of a snapshot that the store has published."""

    hub: Hub
    repo: Path
    commit: str
    names: Collection[str]
    space: Callable[[Path], Space]
    timing: Timing

    def run(self, flight: Flight) -> None:
        """Fetch them, once nobody else works on the model; in a flight's thread.

        Raises:
            ModelUnavailable: they cannot be had, or the model was evicted meanwhile; what was here is here still.
            Abandoned: nobody waits for it any more.
        """
        waiter = Waiter(self.repo, self.timing)
        try:
            while not ((lease := waiter.attempt()) and self._run(lease, flight)):
                flight.check()
                flight.abandoned.wait(LOOK_S)
        except OSError as exc:
            raise unusable(model_id_of(self.repo), exc) from exc

    def _run(self, lease: Lease, flight: Flight) -> bool:
        try:
            with lease:
                finish_evictions(self.repo, lease)
                self._fetch(lease, flight)
        except LeaseLost:
            return False
        finally:
            tidy(self.repo)
        return True

    def _fetch(self, lease: Lease, flight: Flight) -> None:
        marker = read_marker(self.repo, self.commit)
        if marker is None:
            raise ModelUnavailable("the model was evicted while it was verified; download it again")
        wanted = self._wanted(marker)

        def between(moment: Transfer) -> None:
            flight.moment = moment
            flight.check()

        meter, space = Meter(wanted.total()), self.space(self.repo.parent)
        download = _Again if marker.readable else Download  # which hashes what it has no list of
        download(self.hub, wanted, None, self.repo, lease, meter, space, between).run()

    def _wanted(self, marker: Marker) -> Listing:
        listing = self.hub.listing(marker.model_id, self.commit)
        if not marker.readable:
            snapshot = snapshot_path(self.repo, self.commit)
            return listing.only([file.relative_to(snapshot).as_posix() for file in files_below(snapshot)])
        if lacking := sorted(set(self.names) - set(listing.names())):
            raise ModelUnavailable(
                f"the hub has no {', '.join(lacking[:3])} of '{marker.model_id}' any more; evict the model, and take "
                "another revision"
            )
        return listing.only(list(self.names))
