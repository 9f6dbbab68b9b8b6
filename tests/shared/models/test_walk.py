"""Folders that come and go."""

import contextlib
import threading
from pathlib import Path

import pytest

from shared.models.walk import make_folder


def test_a_folder_is_made_while_others_remove_those_that_are_empty(tmp_path: Path) -> None:
    made, done = tmp_path / "repo" / ".incoming" / "mine", threading.Event()

    def tidy() -> None:
        while not done.wait(0.0001):  # whom nothing stops would keep the interpreter to itself
            for folder in (made.parent, made.parent.parent):
                with contextlib.suppress(OSError):
                    folder.rmdir()

    others = [threading.Thread(target=tidy) for _ in range(2)]
    for other in others:
        other.start()
    try:
        for _ in range(300):
            make_folder(made)
            assert made.is_dir()  # it is nobody else's, and keeps those above it
            made.rmdir()
    finally:
        done.set()
        for other in others:
            other.join()


@pytest.mark.parametrize("blocked", ["file", "file/below"])
def test_a_file_in_its_place_is_told(tmp_path: Path, blocked: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises((FileExistsError, NotADirectoryError)):
        make_folder(tmp_path / blocked)
