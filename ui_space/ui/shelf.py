"""A folder for results that the page shows; the oldest go when it is full."""

import hashlib
from pathlib import Path


class Shelf:
    """Files under names of their own; `max_bytes` for all of them together."""

    def __init__(self, folder: Path, max_bytes: int = 2 * 2**30) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._max_bytes = max_bytes

    def put(self, data: bytes, name: str) -> Path:
        """Keep a file, and say where; the same content is kept once."""
        path = self._folder / f"{hashlib.sha256(data).hexdigest()[:16]}-{name}"
        path.write_bytes(data)
        self._make_room()
        return path

    def _make_room(self) -> None:
        kept = sorted(((f.stat().st_mtime, f.stat().st_size, f) for f in self._folder.iterdir()), reverse=True)
        total = 0
        for _, size, file in kept:
            total += size
            if total > self._max_bytes:
                file.unlink(missing_ok=True)
