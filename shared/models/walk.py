"""Folders that others may be changing meanwhile: the files below one, and a new one."""

import os
from collections.abc import Iterator
from pathlib import Path

TRIES = 1000  # each lost to another process that removed an empty folder in that very moment


def files_below(folder: Path) -> Iterator[Path]:
    """Every file and link; folders that vanish on the way are passed over, where `Path.rglob` would raise."""
    for parent, folders, names in os.walk(folder):
        yield from (Path(parent, name) for name in names)
        yield from (Path(parent, name) for name in folders if Path(parent, name).is_symlink())


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, unless they are there, while others remove those that are empty.

    `Path.mkdir` raises where one goes between its steps.

    Raises:
        FileExistsError, NotADirectoryError: a file is in its place, or above it.
    """
    for _ in range(TRIES):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            return
        except FileNotFoundError:
            continue
        except FileExistsError:
            if any(path.exists() and not path.is_dir() for path in (folder, *folder.parents)):
                raise
    folder.mkdir(parents=True, exist_ok=True)
