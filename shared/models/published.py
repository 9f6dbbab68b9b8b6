"""Models that the store has published: a folder of real files, and beside it a marker that says which they are."""

import contextlib
import json
import os
import shutil
import socket
import stat
import uuid
from collections.abc import Collection
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from shared.models.checks import Record
from shared.models.walk import files_below, make_folder

MARKER = ".published-{}.json"


@dataclass(frozen=True)
class Marker:
    """What a published snapshot consists of."""

    model_id: str
    commit: str
    files: dict[str, Record]
    shared: bool = False  # files of another tool are in the folder too, so it is not ours to delete
    branch: str | None = None  # for which it was downloaded, if not by its commit
    at: str = ""
    by: str = ""
    readable: bool = True  # False: the marker is there, and nobody knows what it says

    def total(self) -> int:
        """Bytes of all its files."""
        return sum(record.size for record in self.files.values())


def marker_path(repo: Path, commit: str) -> Path:
    """Where the marker of a snapshot is."""
    return repo / MARKER.format(commit)


def snapshot_path(repo: Path, commit: str) -> Path:
    """Where the files of a snapshot are."""
    return repo / "snapshots" / commit


def read_marker(repo: Path, commit: str) -> Marker | None:
    """The marker of a snapshot; None where there is none.

    What a newer worker adds to it is passed over. One that cannot be read is a marker too: the snapshot is damaged,
    and while the volume does not answer, nobody knows that it may be deleted.
    """
    known = {field.name for field in fields(Marker)} - {"files", "readable"}
    try:
        told: dict[str, Any] = json.loads(marker_path(repo, commit).read_text())
        files = {str(name): Record(int(f["size"]), str(f["sha256"])) for name, f in told.pop("files").items()}
        return Marker(files=files, **{name: value for name, value in told.items() if name in known})
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        return Marker(model_id_of(repo), commit, {}, shared=True, readable=False)
    except (ValueError, KeyError, TypeError, AttributeError):
        return Marker(model_id_of(repo), commit, {}, readable=False)


def model_id_of(repo: Path) -> str:
    """The model that a cache's folder is of."""
    return repo.name.removeprefix("models--").replace("--", "/", 1)


def markers(repo: Path) -> list[Marker]:
    """The markers of all snapshots of a model."""
    commits = (file.name[len(".published-") : -len(".json")] for file in repo.glob(MARKER.format("*")))
    return [marker for commit in sorted(commits) if (marker := read_marker(repo, commit))]


def publish(repo: Path, incoming: Path, marker: Marker) -> Path:
    """Make the incoming folder, whose files have been checked, the snapshot of its commit; by one rename.

    Where the snapshot is there already (with fewer files, or with damaged ones) its files are replaced one by one.

    Raises:
        FileNotFoundError: the incoming folder was taken over by another process.
    """
    snapshot = snapshot_path(repo, marker.commit)
    shutil.rmtree(incoming / ".cache", ignore_errors=True)
    if not snapshot.exists():
        make_folder(snapshot.parent)
        _write_marker(repo, marker)  # first: it counts only when every file that it names is there
        incoming.rename(snapshot)
        return snapshot
    before = read_marker(repo, marker.commit)
    for file in list(files_below(incoming)):
        target = snapshot / file.relative_to(incoming)
        make_folder(target.parent)
        file.replace(target)
    incoming.rename(incoming.with_name(f"{incoming.name}-done"))  # fails where another took it over in between
    shutil.rmtree(incoming.with_name(f"{incoming.name}-done"), ignore_errors=True)
    files = {**(before.files if before else {}), **marker.files}
    shared = before.shared if before else True
    branch = marker.branch or (before.branch if before else None)
    _write_marker(repo, Marker(marker.model_id, marker.commit, files, shared, branch))
    return snapshot


def _write_marker(repo: Path, marker: Marker) -> None:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    told = {name: value for name, value in asdict(marker).items() if name != "readable"}
    made = {**told, "at": now, "by": f"{socket.gethostname()}:{os.getpid()}"}
    replace_text(marker_path(repo, marker.commit), json.dumps(made, indent=1))


def write_ref(repo: Path, revision: str, commit: str) -> None:
    """Let a branch stand for a commit, as `refs/main` does.

    Where that of another branch is in the way, as `a` is in that of `a/b`, the marker alone says it.
    """
    ref = repo / "refs" / revision
    with contextlib.suppress(FileExistsError, NotADirectoryError, IsADirectoryError):
        make_folder(ref.parent)
        replace_text(ref, commit)


def replace_text(path: Path, text: str) -> None:
    """Write a file so that nobody ever reads half of it; one that is there keeps its mode."""
    unfinished = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with unfinished.open("w") as file:
            with contextlib.suppress(OSError):  # there is none yet, or the volume keeps no modes
                unfinished.chmod(stat.S_IMODE(path.stat().st_mode))
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def wrong_sizes(repo: Path, marker: Marker, names: Collection[str] | None = None) -> list[str]:
    """What is missing or has another size than published, of all files or of those named; fast, for every load."""
    if not marker.readable:
        return ["the list of its files cannot be read"]
    snapshot = snapshot_path(repo, marker.commit)
    wrong = []
    for name, record in marker.files.items():
        if names is not None and name not in names:
            continue
        try:
            size = (snapshot / name).stat().st_size
        except OSError:
            wrong.append(f"{name} is missing")
            continue
        if size != record.size:
            wrong.append(f"{name} has {size:,} bytes and should have {record.size:,}")
    return wrong
