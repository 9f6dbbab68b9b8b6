"""Which models are read, shown to other workers on the volume by a heartbeat, so that none of them evicts one."""

import contextlib
import threading
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

FOLDER = ".readers"
BEAT_S = 20.0
STALE_S = 600.0  # far more than a heartbeat: clocks of hosts differ, and a model must not go while it is read
AHEAD_S = 24 * 3600.0  # by more than this no living worker's clock is fast
TRIES = 100
Key = tuple[Path, str]


class Readers:
    """What this process reads: held for a job, or loaded on the device."""

    def __init__(self, beat_s: float = BEAT_S) -> None:
        self._beat_s = beat_s
        self._held: Counter[Key] = Counter()
        self._loaded: frozenset[Key] = frozenset()
        self._lock = threading.RLock()  # over the files too: what one thread hides, another has not just shown
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    @cached_property
    def _name(self) -> str:
        """Drawn when it is first shown: copies of a process that has read nothing yet are different readers."""
        return uuid.uuid4().hex

    @contextmanager
    def hold(self, repo: Path, commit: str) -> Iterator[None]:
        """Nobody evicts the model within the block."""
        key = (repo, commit)
        with self._lock:
            self._held[key] += 1
            self._show(key)
        try:
            yield
        finally:
            with self._lock:
                self._held -= Counter([key])
                self._hide_unused({key})

    def loaded(self, keys: Iterable[Key]) -> None:
        """These are on the device now, and no others are."""
        with self._lock:
            before, self._loaded = self._loaded, frozenset(keys)
            for key in self._loaded - before:
                self._show(key)
                self._remove_dead(key)
            self._hide_unused(before - self._loaded)

    def close(self) -> None:
        """Nothing is read any more."""
        self._ended.set()
        with self._lock:
            before = self.reading()
            self._held.clear()
            self._loaded = frozenset()
            self._hide_unused(before)

    def reading(self) -> set[Key]:
        """What this process reads."""
        with self._lock:
            return set(self._held) | self._loaded

    def _file(self, key: Key) -> Path:
        repo, commit = key
        return repo / FOLDER / f"{commit}-{self._name}"

    def _show(self, key: Key) -> None:
        with contextlib.suppress(OSError):  # on a volume that can only be read, nobody evicts
            _touch(self._file(key))
        if self._thread is None:
            self._thread = threading.Thread(target=self._beat_on, name="readers", daemon=True)
            self._thread.start()

    def _remove_dead(self, key: Key) -> None:
        with contextlib.suppress(OSError):
            remove_dead(key[0], self._file(key).stat().st_mtime)  # just made: the volume's clock

    def _hide_unused(self, keys: Iterable[Key]) -> None:
        for key in set(keys) - self.reading():
            with contextlib.suppress(OSError):
                self._file(key).unlink()

    def _beat_on(self) -> None:
        while not self._ended.wait(self._beat_s):
            for key in self.reading():
                with self._lock:
                    if key in self.reading():
                        self._show(key)  # also what a full volume had no room for


def _touch(file: Path) -> None:
    """Make the file, or its time now; with its folder, which another process may remove while it is empty."""
    for _ in range(TRIES):
        with contextlib.suppress(FileNotFoundError, FileExistsError):  # the latter where it went as it was looked at
            file.parent.mkdir(exist_ok=True)
            file.touch()
            return
        if not file.parent.parent.is_dir():  # the model is evicted
            return


def is_read(repo: Path, commit: str, now: float) -> bool:
    """Whether any worker has shown within the last minutes that it reads the model; `now` by the volume's clock."""
    return any(_lives(file, now) for file in (repo / FOLDER).glob(f"{commit}-*"))


def remove_dead(repo: Path, now: float) -> None:
    """Remove the files of workers that were killed; one that only slept shows its own again. `now` as above."""
    for file in list((repo / FOLDER).glob("*")):
        if not _lives(file, now):
            with contextlib.suppress(OSError):
                file.unlink()


def _lives(file: Path, now: float) -> bool:
    try:
        return -AHEAD_S < now - file.stat().st_mtime < STALE_S
    except FileNotFoundError:
        return False
