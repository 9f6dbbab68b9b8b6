"""Models in a folder or a file of the user's own; their revision is a hash of what they are."""

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from shared.models.catalog import Entry
from shared.models.wanted import TEXTS, parts_of
from shared.models.whole import is_whole
from shared.schemas import ModelSource

HASHED_WHOLE = 16 * 2**20  # bytes; a larger file is sampled, since a cold start must not read it twice
PICKLED = (".pt", ".pth")
WEIGHTS = (".safetensors", ".gguf", *PICKLED)
SAMPLES = 32
SAMPLE = 128 * 2**10  # bytes; all samples are a quarter of the smallest file that is sampled


def in_folder(entry: Entry, path: Path) -> ModelSource | None:
    """The model in a folder, or in a file, that is no cache."""
    if path.is_file():
        parts = [path.with_name(part) for part in parts_of(path.name)]
        if not all(part.is_file() for part in parts):
            return None
        return ModelSource(entry.model_id, _revision(path.parent, parts), path, entry.loading())
    own = [f.name for f in path.glob("*") if f.suffix in PICKLED]  # read as tensors only, whoever reads them
    if not is_whole(path, entry.files, own):
        return None
    if entry.files:
        parts = [path / part for part in parts_of(entry.files[0])]
        return ModelSource(entry.model_id, _revision(path, parts), parts[0], entry.loading())
    files = sorted(f for f in path.rglob("*") if f.is_file() and f.suffix in (*TEXTS, *WEIGHTS))
    return ModelSource(entry.model_id, _revision(path, files), path, entry.loading())


def _revision(folder: Path, files: Sequence[Path]) -> str:
    """`sha256-...`: of every byte; `sampled-...`: of names, lengths and pieces, where a file is too large for that.

    Two models of the latter may share a revision, if they differ between the pieces only.
    """
    stats = [f.stat() for f in files]
    state = tuple(
        (f.relative_to(folder).as_posix(), s.st_size, s.st_mtime_ns) for f, s in zip(files, stats, strict=True)
    )
    kind = "sampled" if any(size > HASHED_WHOLE for _, size, _ in state) else "sha256"
    return f"{kind}-{_digest(folder, state)[:16]}"


@lru_cache(maxsize=64)
def _digest(path: Path, state: tuple[tuple[str, int, int], ...]) -> str:
    """The hash of a folder's files; read again only when `state` (names, sizes, times) is another."""
    digest = hashlib.sha256()
    for name, size, _ in state:
        with (path / name).open("rb") as file:
            content = _sampled(file, size) if size > HASHED_WHOLE else hashlib.file_digest(file, "sha256").digest()
            digest.update(name.encode() + content)
    return digest.hexdigest()


def _sampled(file: BinaryIO, size: int) -> bytes:
    """The hash of a file's length and of pieces of it, from its first to its last."""
    digest = hashlib.sha256(str(size).encode())
    for n in range(SAMPLES):
        file.seek((size - SAMPLE) * n // (SAMPLES - 1))
        digest.update(file.read(SAMPLE))
    return digest.digest()
