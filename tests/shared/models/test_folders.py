"""The revision of a model of the user's own: of every byte where that costs nothing, of pieces where it would."""

import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from shared.models import folders
from shared.models.catalog import Entry
from shared.models.folders import HASHED_WHOLE, SAMPLE, SAMPLES, in_folder
from tests.shared.models.folders import FILES, write_files

WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


def revision(path: Path) -> str:
    source = in_folder(Entry(pipeline="text-to-image", model_id=str(path)), path)
    assert source is not None
    return source.revision


def large(file: Path, *, byte_at: int | None = None, size: int = 4 * HASHED_WHOLE) -> Path:
    """A file of holes, and of one byte."""
    with file.open("wb") as holes:
        holes.truncate(size)
        if byte_at is not None:
            holes.seek(byte_at)
            holes.write(b"x")
    return file


@pytest.fixture
def read_bytes(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How many bytes were asked for by `read` and `readinto` so far, of files that are opened from now on."""
    counts: list[int] = []

    class Counted(io.FileIO):
        def read(self, size: int | None = -1, /) -> bytes:
            data = super().read(-1 if size is None else size)
            counts.append(len(data))
            return data

        def readinto(self, buffer: "bytearray", /) -> int:  # type: ignore[override]
            count = super().readinto(buffer)
            counts.append(count)
            return count

    monkeypatch.setattr(Path, "open", lambda path, mode: Counted(path, mode))
    return lambda: sum(counts)


def test_a_small_model_is_hashed_whole_with_its_names(tmp_path: Path) -> None:
    ours = write_files(tmp_path)
    before = revision(ours)
    assert before.startswith("sha256-")
    (ours / WEIGHTS).write_bytes(b"weightz")
    changed = revision(ours)
    (ours / WEIGHTS).write_bytes(FILES[WEIGHTS])
    assert revision(ours) == before != changed


def test_a_large_file_makes_the_revision_a_sampled_one(tmp_path: Path) -> None:
    ours = write_files(tmp_path)
    large(ours / WEIGHTS, size=HASHED_WHOLE)
    assert revision(ours).startswith("sha256-")
    large(ours / WEIGHTS, size=HASHED_WHOLE + 1)
    assert revision(ours).startswith("sampled-")


def test_the_first_and_the_last_byte_and_the_length_count(tmp_path: Path) -> None:
    size, file = 4 * HASHED_WHOLE, tmp_path / "large.gguf"
    made = [large(file, byte_at=at, size=size) for at in (None, 0, size - 1)]
    found = {revision(large(path, byte_at=at, size=size)) for path, at in zip(made, (None, 0, size - 1), strict=True)}
    found.add(revision(large(file, size=size + 1)))
    assert len(found) == 4


def test_of_a_large_file_little_is_read(tmp_path: Path, read_bytes: Callable[[], int]) -> None:
    """A cold start reads the weights once, and that is when they are loaded."""
    assert SAMPLES * SAMPLE < HASHED_WHOLE
    assert revision(large(tmp_path / "large.gguf")).startswith("sampled-")
    assert read_bytes() == SAMPLES * SAMPLE
    folders._digest.cache_clear()
    assert revision(large(tmp_path / "small.gguf", size=100)).startswith("sha256-")
    assert read_bytes() == SAMPLES * SAMPLE + 100


def test_what_has_not_changed_is_not_read_again(tmp_path: Path, read_bytes: Callable[[], int]) -> None:
    file = large(tmp_path / "large.gguf")
    before, read = revision(file), read_bytes()
    assert (revision(file), read_bytes()) == (before, read)
    os.utime(file, (1e9, 1e9))
    assert (revision(file), read_bytes()) == (before, 2 * read)
