"""What is on the volumes, for those who look after them: listed, verified and evicted."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from shared.models.cached import model_id_of, snapshots
from shared.models.checks import Damaged, check_file
from shared.models.hub import Remote
from shared.models.published import damages, read_marker, snapshot_path, wrong_sizes
from shared.models.readers import is_read
from shared.models.space import Published
from shared.models.walk import files_below
from shared.models.whole import is_whole

SHA256, GIT_SHA1 = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Stored:
    """One model at one commit in one cache."""

    model_id: str
    revision: str
    path: Path
    bytes: int
    last_used: float | None  # seconds since 1970; None where nobody has kept account
    pinned: bool
    complete: bool
    in_use: bool
    ours: bool  # published by a store, which may delete it; False: another tool's

    @property
    def repo(self) -> Path:
        """The folder of the model, with all its commits."""
        return self.path.parent.parent


def stored(roots: Iterable[Path], is_pinned: Callable[[str, str], bool], now: float) -> list[Stored]:
    """All models in these caches, also those that are not whole."""
    return [_stored(repo, commit, is_pinned, now) for root in roots for repo, commit in snapshots(root)]


def _stored(repo: Path, commit: str, is_pinned: Callable[[str, str], bool], now: float) -> Stored:
    marker, path = read_marker(repo, commit), snapshot_path(repo, commit)
    model_id = marker.model_id if marker else model_id_of(repo)
    return Stored(
        model_id=model_id,
        revision=commit,
        path=path,
        bytes=marker.total() if marker else sum(f.stat().st_size for f in files_below(path) if f.exists()),
        last_used=Published(repo, marker).last_used() if marker else None,
        pinned=is_pinned(model_id, commit),
        complete=not wrong_sizes(repo, marker) if marker else is_whole(path),
        in_use=is_read(repo, commit, now),
        ours=marker is not None and not marker.shared,
    )


def damaged_files(model: Stored) -> list[Damaged]:
    """Every file that differs from the hub's, by its hash; reads all of them.

    What another tool has put there is compared with the name of its blob, which is the hub's hash of it.
    """
    marker = read_marker(model.repo, model.revision)
    return damages(model.repo, marker) if marker else list(_damaged_blobs(model.path))


def _damaged_blobs(snapshot: Path) -> Iterator[Damaged]:
    for link in files_below(snapshot):
        name, blob = link.relative_to(snapshot).as_posix(), link.resolve()
        sha256 = blob.name if SHA256.fullmatch(blob.name) else None
        git = blob.name if GIT_SHA1.fullmatch(blob.name) else None
        if link.is_symlink() and not blob.exists():
            yield Damaged(name, "is missing")
        elif blob.is_file() and (sha256 or git):
            try:
                check_file(blob, Remote(name, None, sha256, git))
            except Damaged as exc:
                yield exc
