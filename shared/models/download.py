"""One download under a lease: adopt what is there, fetch what is missing, check each file, publish."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from shared import logs
from shared.errors import ModelUnavailable
from shared.models import incoming
from shared.models.checks import Damaged, Record, check_file, check_header
from shared.models.hub import Hub, Listing, Remote
from shared.models.hub_errors import FULL, DiskFull
from shared.models.lease import Lease
from shared.models.published import Marker, publish, read_marker, snapshot_path
from shared.models.space import Space
from shared.models.transfer import Meter, Transfer

ATTEMPTS = 3  # how often a file is fetched that arrives damaged
GB = 10**9


@dataclass(frozen=True)
class Download:
    """What is to be fetched, where to, and who is asked on the way.

    `between` is called between pieces, with how far it is, and raises when nobody wants the model any more.
    """

    hub: Hub
    wanted: Listing
    repo: Path
    lease: Lease
    meter: Meter
    space: Space
    between: Callable[[Transfer], None]

    def run(self) -> Path:
        """The published snapshot.

        Raises:
            LeaseLost: another process took over; all that was fetched is its.
            ModelUnavailable: a file cannot be had, is damaged on the hub, or finds no space.
        """
        try:
            return self._run()
        except FileNotFoundError:
            self.lease.check()  # the folder is gone since another adopted it
            raise
        except (OSError, DiskFull) as exc:
            if isinstance(exc, OSError) and exc.errno not in FULL:
                raise
            raise self._no_space() from exc
        finally:
            incoming.drop_if_empty(self.repo / incoming.FOLDER / self.lease.token)

    def _run(self) -> Path:
        folder = incoming.adopt(self.repo, self.lease.token)
        whole = self._present() | incoming.kept(folder, self.wanted, self._between)
        missing = [file for file in self.wanted.files if file.name not in whole]
        self.meter.skip(sum(record.size for record in whole.values()))
        self.space.ask(sum(file.size or 0 for file in missing), self.lease)
        for file in missing:
            whole[file.name] = self._fetched(file, folder)
        self._between()
        return publish(self.repo, folder, Marker(self.wanted.model_id, self.wanted.commit, whole))

    def _between(self) -> None:
        self.lease.check()
        moment = self.meter.read()
        self.lease.note(moment.done, moment.total)
        self.between(moment)

    def _present(self) -> dict[str, Record]:
        """Files that are in the snapshot already: as published, or put there by another tool and checked here."""
        snapshot = snapshot_path(self.repo, self.wanted.commit)
        marker = read_marker(self.repo, self.wanted.commit)
        found: dict[str, Record] = {}
        for file in self.wanted.files:
            path = snapshot / file.name
            known = marker.files.get(file.name) if marker else None
            if not path.is_file():
                continue
            if known and known.size == path.stat().st_size:
                found[file.name] = known
                continue
            try:
                found[file.name] = check_file(path, file, between=self._between)
            except Damaged as exc:
                logs.stage("damaged", "models", model=self.wanted.model_id, file=exc.name, reason=exc.what)
        return found

    def _fetched(self, file: Remote, folder: Path) -> Record:
        """The file, right and whole; damaged ones are fetched again."""
        for _ in range(ATTEMPTS):
            path = self._arrived(file, folder)
            try:
                record = check_file(path, file, between=self._between)
            except Damaged as exc:
                logs.stage("damaged", "models", model=self.wanted.model_id, file=exc.name, reason=exc.what)
                self.meter.add(-path.stat().st_size)
                path.unlink()
                damage = exc
                continue
            self._check_header(path, file.name)
            return record
        raise ModelUnavailable(
            f"'{self.wanted.model_id}' arrived damaged {ATTEMPTS} times: {damage}", reason="damaged", file=damage.name
        )

    def _arrived(self, file: Remote, folder: Path) -> Path:
        arrived = 0

        def on_bytes(number: int) -> None:
            nonlocal arrived
            arrived += number
            self.meter.add(number)
            self._between()

        self._between()
        while True:
            try:
                path = self.hub.fetch(self.wanted, file, folder, on_bytes)
            except DiskFull:
                self.meter.add(-arrived)
                arrived = 0
                if not self.space.free(file.size or 1, self.lease):
                    raise
                continue
            self._between()
            return path

    def _check_header(self, path: Path, name: str) -> None:
        try:
            check_header(path, name)
        except Damaged as exc:
            raise ModelUnavailable(
                f"'{self.wanted.model_id}' has a damaged file on the hub: {exc}", reason="damaged", file=name
            ) from exc

    def _no_space(self) -> ModelUnavailable:
        incoming.remove(self.repo / incoming.FOLDER / self.lease.token)
        return ModelUnavailable(
            f"'{self.wanted.model_id}' needs {self.wanted.total() / GB:.1f} GB, and the volume is full; "
            "delete files or evict models, or take a larger volume",
            reason="disk_full",
        )
