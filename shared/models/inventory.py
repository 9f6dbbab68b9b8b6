"""What is on the volumes, for those who look after them: listed, counted and verified."""

import contextlib
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from shared.models import incoming
from shared.models.cached import snapshots
from shared.models.checks import BLOCK, Damaged, check_file
from shared.models.hub import Remote
from shared.models.published import Marker, marker_path, model_id_of, read_marker, snapshot_path, wrong_sizes
from shared.models.readers import is_read
from shared.models.space import Published
from shared.models.transfer import Meter, Transfer
from shared.models.volumes import is_networked
from shared.models.walk import files_below
from shared.models.whole import is_whole

SHA256, GIT_SHA1 = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{40}")
SHORT_COMMIT = re.compile(r"[0-9a-f]{7,40}")
PARTIAL = ".incomplete"  # how the names of huggingface_hub's unfinished files end


@dataclass(frozen=True)
class Stored:
    """One model at one commit in one cache."""

    model_id: str
    revision: str
    refs: tuple[str, ...]  # the branches and tags that stand for this commit
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

    def is_at(self, revision: str) -> bool:
        """Whether a branch, a tag, a commit or its first seven digits means this one."""
        short = SHORT_COMMIT.fullmatch(revision) is not None and self.revision.startswith(revision)
        return short or revision in self.refs


@dataclass(frozen=True)
class Volume:
    """What the models in one cache take on the disk, each file once."""

    root: Path
    taken: int  # bytes, of which `unfinished` belong to downloads that go on or broke off
    unfinished: int
    free: int | None  # bytes; None on network volumes, which do not tell what their quota leaves


def stored(roots: Iterable[Path], is_pinned: Callable[[str, str], bool], now: float) -> list[Stored]:
    """All models in these caches, also those that are not whole."""
    return [_stored(repo, commit, is_pinned, now) for root in roots for repo, commit in snapshots(root)]


def _stored(repo: Path, commit: str, is_pinned: Callable[[str, str], bool], now: float) -> Stored:
    marker, path = read_marker(repo, commit), snapshot_path(repo, commit)
    model_id = marker.model_id if marker else model_id_of(repo)
    return Stored(
        model_id=model_id,
        revision=commit,
        refs=_refs(repo, commit),
        path=path,
        bytes=marker.total() if marker and marker.readable else _size(path),
        last_used=Published(repo, marker).last_used() if marker else None,
        pinned=is_pinned(model_id, commit),
        complete=not wrong_sizes(repo, marker) if marker else is_whole(path),
        in_use=is_read(repo, commit, now),
        ours=marker is not None and not marker.shared,
    )


def _size(snapshot: Path) -> int:
    return sum(f.stat().st_size for f in files_below(snapshot) if f.exists())


def _refs(repo: Path, commit: str) -> tuple[str, ...]:
    found = []
    for file in files_below(repo / "refs"):
        with contextlib.suppress(FileNotFoundError):  # a download has just replaced it
            if file.suffix != ".tmp" and file.read_text().strip() == commit:
                found.append(file.relative_to(repo / "refs").as_posix())
    return tuple(sorted(found))


def volume(root: Path) -> Volume:
    """The space in one cache; the folder must be there."""
    sizes: dict[tuple[int, int], int] = {}
    partial: set[tuple[int, int]] = set()
    for file in (f for repo in root.glob("models--*") for f in files_below(repo)):
        try:
            found = file.lstat()
        except FileNotFoundError:  # a download has just renamed it
            continue
        sizes[found.st_dev, found.st_ino] = found.st_size
        if file.name.endswith(PARTIAL) or incoming.FOLDER in file.parts:
            partial.add((found.st_dev, found.st_ino))
    free = None if is_networked(root) else shutil.disk_usage(root).free
    return Volume(root, sum(sizes.values()), sum(sizes[key] for key in partial), free)


def damaged_files(model: Stored, on_progress: Callable[[Transfer], None] = lambda moment: None) -> list[Damaged]:
    """Every file that is missing or differs from the hub's, by its hash; reads all of them.

    What another tool has put there is compared with the name of its blob, which is the hub's hash of it.
    """
    marker = read_marker(model.repo, model.revision)
    if marker and not marker.readable:
        return [Damaged(marker_path(model.repo, model.revision).name, "cannot be read")]
    files = list(_expected(model, marker))
    meter = Meter(sum(remote.size or 0 for _, remote in files))
    found = (_damage(path, remote, meter, on_progress) for path, remote in files)
    return [damage for damage in found if damage]


def _expected(model: Stored, marker: Marker | None) -> Iterator[tuple[Path, Remote]]:
    if marker is None:
        yield from _blobs(model.path)
        return
    for name, record in marker.files.items():
        yield model.path / name, Remote(name, record.size, record.sha256)


def _blobs(snapshot: Path) -> Iterator[tuple[Path, Remote]]:
    for link in files_below(snapshot):
        name, blob = link.relative_to(snapshot).as_posix(), link.resolve()
        sha256 = blob.name if SHA256.fullmatch(blob.name) else None
        git = blob.name if GIT_SHA1.fullmatch(blob.name) else None
        if not blob.is_file():
            yield blob, Remote(name)
        elif sha256 or git:
            yield blob, Remote(name, blob.stat().st_size, sha256, git)


def _damage(path: Path, remote: Remote, meter: Meter, on_progress: Callable[[Transfer], None]) -> Damaged | None:
    left = remote.size or 0

    def between() -> None:
        nonlocal left
        block = min(BLOCK, left)
        left -= block
        meter.add(block)
        on_progress(meter.read())

    on_progress(meter.read())
    try:
        check_file(path, remote, between=between)
    except Damaged as damage:
        return damage
    except FileNotFoundError:
        return Damaged(remote.name, "is missing")
    except OSError as exc:
        return Damaged(remote.name, f"cannot be read ({exc.strerror})")
    finally:
        meter.skip(left)  # of a file that is missing, or has another size, nothing more is read
    return None
