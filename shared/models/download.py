"""One download under a lease: adopt what is there, fetch what is missing, check each file, publish."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from shared import logs
from shared.errors import ModelUnavailable
from shared.models import incoming
from shared.models.checks import Damaged, Record, check_file, check_header
from shared.models.hub import Hub, Listing, Remote
from shared.models.hub_errors import DiskFull, full, is_full
from shared.models.lease import Lease
from shared.models.published import Marker, marker_path, publish, read_marker, snapshot_path, write_ref
from shared.models.space import Space
from shared.models.transfer import Meter, Transfer

ATTEMPTS = 3  # how often a file is fetched that arrives damaged


@dataclass(frozen=True)
class Download:
    """What is to be fetched, where to, and who is asked on the way.

    `branch` is what the listing was asked for, where that is no commit; a ref of its name is written.
    `between` is called between pieces, with how far it is, and raises when nobody wants the model any more.
    `approve` is called before the files are published, with their folder, and raises when they are of no use.
    """

    hub: Hub
    wanted: Listing
    branch: str | None
    repo: Path
    lease: Lease
    meter: Meter
    space: Space
    between: Callable[[Transfer], None]
    approve: Callable[[Path], None] = lambda folder: None

    def run(self) -> Path:
        """The published snapshot.

        Raises:
            LeaseLost: another process took over; all that was fetched is its.
            ModelUnavailable: a file cannot be had, is damaged on the hub, or finds no space.
        """
        try:
            return self._with_room()
        except FileNotFoundError:
            self.lease.check()  # the folder is gone since another adopted it
            raise
        finally:
            incoming.drop_if_empty(self._folder)

    @property
    def _folder(self) -> Path:
        return self.repo / incoming.FOLDER / self.lease.token

    def _with_room(self) -> Path:
        """Where any write finds no space: evict a model and go on with what has come, until none may go."""
        while True:
            try:
                return self._run()
            except (OSError, DiskFull) as exc:
                if not is_full(exc):
                    raise
                if not self.space.free(1, self.lease):
                    self._clean_up()
                    raise full(self.wanted.model_id, self.wanted.total()) from exc

    def _run(self) -> Path:
        folder = incoming.adopt(self.repo, self.lease.token)
        whole = self._present() | incoming.kept(folder, self.wanted, self._between)
        missing = [file for file in self.wanted.files if file.name not in whole]
        self.meter.skip(sum(record.size for record in whole.values()) - self.meter.read().done)
        self.space.claim(self.wanted.commit, self._size(), self.lease, self._between)
        self.space.ask(sum(file.size or 0 for file in missing), self.lease)
        for file in missing:
            whole[file.name] = self._fetched(file, folder)
        self._between()
        self._approve(folder)
        marker = Marker(self.wanted.model_id, self.wanted.commit, whole, branch=self.branch)
        snapshot = publish(self.repo, folder, marker)
        if self.branch is not None:
            write_ref(self.repo, self.branch, self.wanted.commit)
        return snapshot

    def _size(self) -> int:
        """Bytes of the snapshot when it is published, with the files of it that are so already."""
        marker = read_marker(self.repo, self.wanted.commit)
        before = {name: record.size for name, record in marker.files.items()} if marker else {}
        return sum((before | {file.name: file.size or 0 for file in self.wanted.files}).values())

    def _approve(self, folder: Path) -> None:
        try:
            self.approve(folder)
        except ModelUnavailable:
            incoming.remove(folder)  # or the next who asks would go on with it
            raise

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
            except OSError:  # what a failed fsync lost is still read from memory, and found right
                path.unlink(missing_ok=True)
                raise
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

    def _clean_up(self) -> None:
        """Leave the volume as it was: neither files that came, nor a marker that no snapshot followed."""
        incoming.remove(self._folder)
        if not snapshot_path(self.repo, self.wanted.commit).exists():
            marker_path(self.repo, self.wanted.commit).unlink(missing_ok=True)
