"""Room on the volume: what the store's models take, and which of them go when another one needs it."""

import contextlib
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from shared import logs
from shared.errors import ModelUnavailable
from shared.models import claims, incoming
from shared.models.cached import EVICTING
from shared.models.lease import Lease, Timing, Waiter
from shared.models.published import Marker, marker_path, markers, model_id_of, snapshot_path
from shared.models.readers import FOLDER, Readers, is_read, remove_dead
from shared.models.volumes import is_networked
from shared.models.walk import files_below

USED = ".used-{}"
GB = 10**9


@dataclass(frozen=True)
class Published:
    """A snapshot that the store made, and so may delete."""

    repo: Path
    marker: Marker

    @property
    def commit(self) -> str:
        return self.marker.commit

    def last_used(self) -> float:
        """When a worker last asked for it, or else when it was published."""
        for file in (self.repo / USED.format(self.commit), marker_path(self.repo, self.commit)):
            with contextlib.suppress(OSError):
                return file.stat().st_mtime
        return 0.0


def touch_used(repo: Path, commit: str) -> None:
    """Remember that the model is used now; on a volume that can only be read, nobody evicts."""
    if marker_path(repo, commit).exists():
        with contextlib.suppress(OSError):
            (repo / USED.format(commit)).touch()


class Space:
    """The room in one root; `is_pinned` says of a model and commit that it stays."""

    def __init__(
        self,
        root: Path,
        readers: Readers,
        *,
        max_bytes: int | None = None,
        is_pinned: Callable[[str, str], bool] = lambda model_id, commit: False,
        timing: Timing = Timing(),
        free_bytes: Callable[[Path], int] = lambda root: shutil.disk_usage(root).free,
    ) -> None:
        self._root = root
        self._readers = readers
        self._max_bytes = max_bytes
        self._is_pinned = is_pinned
        self._timing = timing
        self._free_bytes = free_bytes

    def published(self) -> list[Published]:
        """All models that the store made here, the least recently used first."""
        found = [Published(repo, m) for repo in self._root.glob("models--*") for m in markers(repo)]
        return sorted(found, key=Published.last_used)

    def used_bytes(self) -> int:
        """What they take together."""
        return sum(model.marker.total() for model in self.published())

    def claim(self, commit: str, size: int, lease: Lease, between: Callable[[], None] = lambda: None) -> None:
        """Keep room below the limit for a snapshot that will have `size` bytes; others count it from now on.

        The claim ends with the lease. `between` is called while others claim theirs, and may raise.

        Raises:
            ModelUnavailable: it cannot fit.
        """
        if self._max_bytes is None:
            lease.claim(commit, size)
            return
        with claims.alone(self._root, self._timing, between):
            lease.claim(commit, size)  # first, so that it is not evicted for itself
            try:
                self._keep_limit(claims.missing(lease.repo, commit, size), self._max_bytes, lease)
            except ModelUnavailable:
                lease.claim(commit, 0)
                raise

    def ask(self, need: int, lease: Lease) -> None:
        """Make room for a download before it begins, as far as the free space is known.

        Raises:
            ModelUnavailable: it cannot fit.
        """
        free = self._free_bytes(self._root)
        if need <= free:
            return
        could = sum(model.marker.total() for model in self.published()) - self._staying(lease)
        if need > free + could and not is_networked(self._root):  # there, only a write tells what the quota leaves
            raise _no_room(lease, f"needs {need / GB:.1f} GB, and the disk has {free / GB:.1f} GB free")
        self.free(need - free, lease)

    def free(self, need: int, lease: Lease) -> int:
        """Evict until `need` bytes are freed, or nothing may go any more; returns how many were.

        What the lease is held for stays.
        """
        freed = 0
        for model in self.published():
            if freed >= need:
                break
            if not lease.makes(model.repo, model.commit) and self.evict(model, lease):
                freed += model.marker.total()
        return freed

    def evict(self, model: Published, lease: Lease | None = None) -> bool:
        """Delete one model, unless it is pinned, read, or being worked on; `lease` is what the caller holds.

        Whoever looks for it from the moment of the rename on does not find it; whoever had found it before has
        shown that it reads it.
        """
        if self._stays(model):
            return False
        with self._leased(model.repo, lease) as held:
            done = held is not None and self._evicted(model, held)
        tidy(model.repo)
        if done:
            logs.stage("evicted", "models", model=model.marker.model_id, revision=model.commit)
        return done

    def _evicted(self, model: Published, lease: Lease) -> bool:
        going = model.repo / EVICTING.format(model.commit)
        try:
            marker_path(model.repo, model.commit).rename(going)
        except FileNotFoundError:  # another was faster
            return False
        if is_read(model.repo, model.commit, lease.now()):
            going.rename(marker_path(model.repo, model.commit))
            return False
        return finish_eviction(model.repo, model.commit, lease)

    def _stays(self, model: Published) -> bool:
        """Whether this worker alone knows that the model must not go."""
        pinned = self._is_pinned(model.marker.model_id, model.commit)
        return model.marker.shared or pinned or (model.repo, model.commit) in self._readers.reading()

    def _staying(self, lease: Lease) -> int:
        """Bytes of all that cannot be evicted now: nothing goes for a model that would find no room in the end."""
        now = lease.now()
        return sum(
            m.marker.total()
            for m in self.published()
            if self._stays(m) or lease.makes(m.repo, m.commit) or is_read(m.repo, m.commit, now)
        )

    def _keep_limit(self, need: int, limit: int, lease: Lease) -> None:
        others = claims.of_others(self._root, lease)  # before the markers: what is published meanwhile counts there
        if others and self.used_bytes() + sum(others.values()) + need > limit:
            self._end_dead(others)
            others = claims.of_others(self._root, lease)
        claimed = sum(others.values())
        over = self.used_bytes() + claimed + need - limit
        if over <= 0:
            return
        staying = self._staying(lease)
        if staying + claimed + need <= limit:
            over -= self.free(over, lease)
        if over > 0:
            raise _no_room(
                lease,
                f"needs {need / GB:.2f} GB; MODELS_MAX_GB is {limit / GB:g}, of which {staying / GB:.2f} are pinned "
                f"or in use, and {claimed / GB:.2f} are being downloaded",
            )

    def _end_dead(self, repos: Iterable[Path]) -> None:
        """Give back the leases of processes that were killed, and with them what they had claimed."""
        for repo in repos:
            with self._leased(repo, None):
                pass
            tidy(repo)

    @contextlib.contextmanager
    def _leased(self, repo: Path, lease: Lease | None) -> Iterator[Lease | None]:
        """The lease of a model: the caller's own, else taken for this; None where another has it."""
        if lease is not None and lease.is_of(repo):
            yield lease
            return
        try:
            taken = Waiter(repo, self._timing).unless_alive()
        except OSError:
            taken = None
        if taken is None:
            yield None
            return
        with taken:
            yield taken


def _no_room(lease: Lease, why: str) -> ModelUnavailable:
    return ModelUnavailable(
        f"the model '{model_id_of(lease.repo)}' {why}; evict models (`pilotlight models evict`), or take a larger "
        "volume",
        reason="no_room",
    )


def finish_eviction(repo: Path, commit: str, lease: Lease) -> bool:
    """Delete what an eviction has announced; the announcement goes last, so that nobody finds half a model.

    False where a file cannot be deleted: the model is the store's still, to be evicted again or made whole.
    """
    going = repo / EVICTING.format(commit)
    shutil.rmtree(snapshot_path(repo, commit), ignore_errors=True)
    if snapshot_path(repo, commit).exists():
        going.rename(marker_path(repo, commit))
        return False
    for ref in list(files_below(repo / "refs")):
        with contextlib.suppress(OSError):
            if ref.read_text().strip() == commit:
                ref.unlink()
    (repo / USED.format(commit)).unlink(missing_ok=True)
    remove_dead(repo, lease.now())
    going.unlink(missing_ok=True)
    return True


def finish_evictions(repo: Path, lease: Lease) -> None:
    """Delete what killed processes were about to delete, or keep it where somebody reads it."""
    for going in repo.glob(EVICTING.format("*")):
        commit = going.name.removeprefix(".evicting-").removesuffix(".json")
        if is_read(repo, commit, lease.now()) and snapshot_path(repo, commit).exists():
            going.rename(marker_path(repo, commit))
        else:
            finish_eviction(repo, commit, lease)


def tidy(repo: Path) -> None:
    """Remove the folders that are empty."""
    for folder in (repo / "refs", repo / "snapshots", repo / incoming.FOLDER, repo / FOLDER, repo):
        with contextlib.suppress(OSError):
            folder.rmdir()
