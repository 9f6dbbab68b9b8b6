"""Reads a model's files on a network volume ahead into the page cache, while the libraries are imported."""

import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from shared import logs
from shared.device import MEMINFO, memory_available
from shared.models.volumes import is_networked
from shared.models.wanted import parts_of

THREADS = 8
PIECE = 8 * 2**20  # bytes that a thread asks for at once, into one buffer that it keeps
ROOM = 1.3  # of the files' bytes must be free, or what is read last pushes out what was read first
LOAD_ORDER = ("text_encoder", "unet", "transformer", "vae")  # as pipelines list their parts; the rest comes last


@dataclass(frozen=True)
class Done:
    """What a read-ahead came to; `whole` where every byte of the files passed through the page cache."""

    bytes: int = 0
    seconds: float = 0.0
    whole: bool = False


class ReadAhead:
    """Threads that read files, piece by piece in their order; no error of theirs is anyone's."""

    def __init__(self, files: Sequence[Path], *, threads: int = THREADS, piece: int = PIECE) -> None:
        self._piece = piece
        self._sizes = [(file, _size(file)) for file in files]
        self._pieces = ((file, at) for file, size in self._sizes for at in range(0, size, piece))
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._read = 0
        self._begun = time.monotonic()
        self._ended = self._begun
        self._threads = [
            threading.Thread(target=self._run, name=f"read-ahead-{n}", daemon=True) for n in range(threads)
        ]

    def start(self) -> None:
        """Begin; returns at once."""
        for thread in self._threads:
            thread.start()

    def cancel(self) -> None:
        """Read no further piece."""
        self._stop.set()

    def wait(self) -> Done:
        """What was read, once the last thread has ended."""
        for thread in self._threads:
            thread.join()
        total = sum(size for _, size in self._sizes)
        return Done(self._read, round(self._ended - self._begun, 4), whole=self._read == total > 0)

    def _run(self) -> None:
        buffer = bytearray(self._piece)
        opened: tuple[Path, int] | None = None
        try:
            while (piece := self._next()) is not None:
                file, at = piece
                if opened is None or opened[0] != file:
                    opened = _reopened(opened, file)
                self._note(_read(opened[1], buffer, at))
        except OSError as exc:
            logs.logger.debug("a file cannot be read ahead", extra={"fields": {"error": type(exc).__name__}})
        finally:
            if opened is not None:
                os.close(opened[1])

    def _next(self) -> tuple[Path, int] | None:
        with self._lock:
            return None if self._stop.is_set() else next(self._pieces, None)

    def _note(self, count: int) -> None:
        with self._lock:
            self._read += count
            self._ended = time.monotonic()


def weights(path: Path, *, half: bool = False) -> list[Path]:
    """The files of a model in the order in which they are loaded; `half`: `.fp16` files where there are any."""
    if not path.is_dir():
        return [path.with_name(part) for part in parts_of(path.name)]
    parts = sorted((f for f in path.iterdir() if f.is_dir()), key=_load_order)
    files = [f for part in parts for f in _chosen(sorted(part.glob("*.safetensors")), half=half)]
    return files or sorted(path.glob("*.safetensors")) or sorted(path.glob("*.gguf"))


def size(path: Path, *, half: bool = False) -> int:
    """Bytes of a model's weights as they lie on the disk."""
    return sum(_size(file) for file in weights(path, half=half))


def begin(
    files: Sequence[Path], *, networked: Callable[[Path], bool] = is_networked, meminfo: Path = MEMINFO
) -> ReadAhead | None:
    """Start to read files ahead, once; None on a disk of this machine, and where memory would not hold them."""
    key = tuple(files)
    with _LOCK:
        if key in _RUNNING:
            return _RUNNING[key]
        needed = sum(_size(file) for file in files)
        if not needed or not any(networked(file) for file in files) or memory_available(meminfo) < ROOM * needed:
            return None
        _RUNNING[key] = reading = ReadAhead(files)
        reading.start()
        return reading


def finish(
    files: Sequence[Path], *, networked: Callable[[Path], bool] = is_networked, meminfo: Path = MEMINFO
) -> Done:
    """Wait until files are read ahead, starting it where nobody has; what came of it, nothing on a local disk."""
    reading = begin(files, networked=networked, meminfo=meminfo)
    if reading is None:
        return Done()
    try:
        done = reading.wait()
    finally:
        reading.cancel()  # where the wait was broken off
        with _LOCK:
            _RUNNING.pop(tuple(files), None)
    fields = {"bytes": done.bytes, "seconds": done.seconds, "whole": done.whole}
    logs.logger.info("read ahead", extra={"fields": fields})
    return done


_RUNNING: dict[tuple[Path, ...], ReadAhead] = {}
_LOCK = threading.Lock()


def _read(descriptor: int, buffer: bytearray, at: int) -> int:
    """Read one piece, which a network may bring in several; the bytes that there were."""
    view, count = memoryview(buffer), 0
    while count < len(buffer) and (got := os.preadv(descriptor, [view[count:]], at + count)):
        count += got
    return count


def _reopened(opened: tuple[Path, int] | None, file: Path) -> tuple[Path, int]:
    descriptor = os.open(file, os.O_RDONLY)
    if opened is not None:
        os.close(opened[1])
    return file, descriptor


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0


def _load_order(part: Path) -> tuple[int, str]:
    known = (n for n, name in enumerate(LOAD_ORDER) if part.name.startswith(name))
    return next(known, len(LOAD_ORDER)), part.name


def _chosen(files: list[Path], *, half: bool) -> list[Path]:
    files = [f for f in files if "non_ema" not in f.name]
    marked = [f for f in files if ".fp16" in f.name]
    plain = [f for f in files if f not in marked]
    return (marked or plain) if half else (plain or marked)
