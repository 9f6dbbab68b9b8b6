"""Downloads that are not finished: a folder of one's own each, which whoever goes on with it adopts."""

import contextlib
import shutil
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from shared.models.checks import Damaged, Record, check_file
from shared.models.hub import Listing
from shared.models.lease import PREPARED, Lease, Waiter
from shared.models.walk import files_below, make_folder

FOLDER = ".incoming"
DROPPED = "dropped-"  # how the names of those that are being deleted start
OLD_S = 24 * 3600


def adopt(repo: Path, token: str) -> Path:
    """The folder for the holder of the lease, with what the last download that broke off had got.

    By a rename: one who lost the lease, and does not know it yet, then has no folder to publish any more.
    """
    mine = repo / FOLDER / token
    for old in _unfinished(repo):
        if old == mine:
            continue
        if mine.exists():
            remove(old)
            continue
        with contextlib.suppress(FileNotFoundError):  # removed by one who has just learnt that it lost the lease
            old.rename(mine)
    make_folder(mine)
    _remove_texts(repo)
    shutil.rmtree(mine / ".cache", ignore_errors=True)  # huggingface_hub's partial files, which it never resumes
    return mine


def kept(incoming: Path, wanted: Listing, between: Callable[[], None]) -> dict[str, Record]:
    """The wanted files that are whole already, by their hashes; all others are removed."""
    whole: dict[str, Record] = {}
    remotes = {file.name: file for file in wanted.files}
    for path in list(files_below(incoming)):
        name = path.relative_to(incoming).as_posix()
        try:
            if name in remotes and not path.is_symlink():
                whole[name] = check_file(path, remotes[name], between=between)
        except Damaged:
            whole.pop(name, None)
        if name not in whole:
            path.unlink()
    return whole


def sweep(root: Path, now: Callable[[], float] = time.time) -> None:
    """Remove what downloads of over a day ago have left, where nobody works on it, or wants to."""
    for repo in root.glob("models--*"):
        if _old(repo, now()) and (lease := _lease_of(repo)):
            with lease:  # looked at again: another may have adopted it meanwhile, and be done
                for folder in _old(repo, now()):
                    remove(folder)
        tidy(repo)
    for prepared in _old(root, now()):  # to take the lease of the root, under which there are no downloads
        remove(prepared)
    tidy(root)


def _old(repo: Path, now: float) -> list[Path]:
    return [folder for folder in (repo / FOLDER).glob("*") if now - _changed(folder) > OLD_S]


def _lease_of(repo: Path) -> Lease | None:
    try:
        return Waiter(repo).attempt()
    except OSError:
        return None


def remove(folder: Path) -> None:
    """Delete a folder of downloads; renamed before, so that nobody adopts it half deleted."""
    dropped = folder.with_name(f"{DROPPED}{uuid.uuid4().hex}")
    try:
        folder.rename(dropped)
    except FileNotFoundError:
        return
    except OSError:  # a full volume may have no room for the longer name
        dropped = folder
    shutil.rmtree(dropped, ignore_errors=True)


def clear(repo: Path) -> None:
    """Remove what holds no whole file, for the holder of the lease; who prepares to take it prepares anew."""
    for folder in (repo / FOLDER).glob("*"):
        if folder.name.startswith((PREPARED, DROPPED)):
            remove(folder)
        else:
            drop_if_empty(folder)
    _remove_texts(repo)


def _remove_texts(repo: Path) -> None:
    """Markers and refs that were being written when their writer was killed."""
    for text in [*repo.glob("*.tmp"), *files_below(repo / "refs")]:
        if text.suffix == ".tmp":
            text.unlink(missing_ok=True)


def drop_if_empty(folder: Path) -> None:
    """Remove the folder of a download that has no whole file, with what huggingface_hub left in it."""
    shutil.rmtree(folder / ".cache", ignore_errors=True)
    if not any(files_below(folder)):
        shutil.rmtree(folder, ignore_errors=True)


def tidy(repo: Path) -> None:
    """Remove the folder of downloads, if it is empty."""
    with contextlib.suppress(OSError):  # another process prepares something in it
        (repo / FOLDER).rmdir()


def _unfinished(repo: Path) -> list[Path]:
    """The folders of others, the last that was worked on first."""
    folders = [f for f in (repo / FOLDER).glob("*") if not f.name.startswith((PREPARED, DROPPED))]
    return sorted(folders, key=_changed, reverse=True)


def _changed(folder: Path) -> float:
    """When something below the folder was last written."""
    times = []
    for path in (folder, *files_below(folder)):
        try:
            times.append(path.lstat().st_mtime)
        except FileNotFoundError:
            continue
    return max(times, default=time.time())
