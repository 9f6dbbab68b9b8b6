"""Which models are read, shown to other workers on the volume by a heartbeat, so that none of them evicts one."""

import contextlib
import os
import threading
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

FOLDER = ".readers"
BEAT_S = 20.0
STALE_S = 600.0  # far more than a heartbeat: clocks of hosts differ, and a model must not go while it is read
Key = tuple[Path, str]


class Readers:
    """What this process reads: held for a job, or loaded on the device."""

    def __init__(self, beat_s: float = BEAT_S) -> None:
        self._name = uuid.uuid4().hex
        self._beat_s = beat_s
        self._held: Counter[Key] = Counter()
        self._loaded: frozenset[Key] = frozenset()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    @contextmanager
    def hold(self, repo: Path, commit: str) -> Iterator[None]:
        """Nobody evicts the model within the block."""
        key = (repo, commit)
        with self._lock:
            self._held[key] += 1
        self._show(key)
        self._start()
        try:
            yield
        finally:
            with self._lock:
                self._held[key] -= 1
            self._hide_unused({key})

    def loaded(self, keys: Iterable[Key]) -> None:
        """These are on the device now, and no others are."""
        before, self._loaded = self._loaded, frozenset(keys)
        for key in self._loaded - before:
            self._show(key)
            self._start()
        self._hide_unused(before - self._loaded)

    def close(self) -> None:
        """Nothing is read any more."""
        self._ended.set()
        with self._lock:
            self._held.clear()
        self.loaded(())

    def reading(self) -> set[Key]:
        """What this process reads."""
        with self._lock:
            return {key for key, count in self._held.items() if count > 0} | self._loaded

    def _file(self, key: Key) -> Path:
        repo, commit = key
        return repo / FOLDER / f"{commit}-{self._name}"

    def _show(self, key: Key) -> None:
        with contextlib.suppress(OSError):  # on a volume that can only be read, nobody evicts
            self._file(key).parent.mkdir(exist_ok=True)
            self._file(key).touch()

    def _hide_unused(self, keys: Iterable[Key]) -> None:
        for key in set(keys) - self.reading():
            with contextlib.suppress(OSError):
                self._file(key).unlink()
                self._file(key).parent.rmdir()

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._beat_on, name="readers", daemon=True)
                self._thread.start()

    def _beat_on(self) -> None:
        while not self._ended.wait(self._beat_s):
            for key in self.reading():
                with contextlib.suppress(OSError):
                    os.utime(self._file(key))


def is_read(repo: Path, commit: str, now: float) -> bool:
    """Whether any worker has shown within the last minutes that it reads the model; `now` by the volume's clock."""
    for file in (repo / FOLDER).glob(f"{commit}-*"):
        with contextlib.suppress(FileNotFoundError):
            if now - file.stat().st_mtime < STALE_S:
                return True
    return False
