"""The right to change one model's folder, held by one process at a time among all machines that share a volume.

The lease is a folder, `.lease`, with one file in it that is named for its holder. Each change of hands is one rename
that only one process can win, also where flock does nothing:

- taken when free: a folder with the file in it is prepared elsewhere and renamed to `.lease`, which fails unless
  `.lease` is absent or empty;
- taken over from a holder that died: the file is renamed from the old holder's name to the new one's. The name is
  never used again, so a slow process cannot take the lease from a holder other than the one that it found dead;
- given back: the file is removed.

A holder that was only slow learns from its next heartbeat that the file of its name is gone.
"""

import contextlib
import errno
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

FOLDER = ".lease"
PREPARED = "lease-"  # how the names of prepared folders start
RECORD = 512  # bytes; rewritten in place, so that a heartbeat needs no space on a full disk


class LeaseLost(Exception):
    """Another process took the lease over; what was being made is now its."""


@dataclass(frozen=True)
class Timing:
    """How often a holder shows that it lives, and when it counts as dead."""

    beat_s: float = 1.0
    stale_s: float = 8.0


@dataclass(frozen=True)
class Holder:
    """Who has the lease, and how far it has come, in bytes."""

    token: str
    seen: tuple[int, bytes]  # differs from one heartbeat to the next
    host: str = "?"
    pid: int = 0
    done: int = 0
    total: int = 0
    commit: str = ""  # of the snapshot that it makes
    room: int = 0  # bytes that this snapshot will have


class Lease:
    """Held from the start of a `with` to its end, unless it is lost."""

    def __init__(self, folder: Path, token: str, timing: Timing) -> None:
        self.token = token
        self._folder = folder
        self._file = folder / token
        self._timing = timing
        self._state = {"host": socket.gethostname()[:80], "pid": os.getpid(), "beat": 0, "done": 0, "total": 0}
        self._state |= {"commit": "", "room": 0}
        self._ended = threading.Event()
        self._lost = threading.Event()
        self._thread = threading.Thread(target=self._beat_on, name="lease", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ended.set()
        self._thread.join()
        self._file.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # gone already, or taken by the next
            self._folder.rmdir()

    def note(self, done: int, total: int) -> None:
        """Tell those who wait how far this is; they see it with the next heartbeat."""
        self._state |= {"done": done, "total": total}

    def claim(self, commit: str, room: int) -> None:
        """Tell all others at once that a snapshot of so many bytes is being made."""
        self._state |= {"commit": commit, "room": room}
        self.beat()

    @property
    def repo(self) -> Path:
        """The model's folder."""
        return self._folder.parent

    def is_of(self, repo: Path) -> bool:
        """Whether it is the lease of this model's folder."""
        return self._folder == repo / FOLDER

    def makes(self, repo: Path, commit: str) -> bool:
        """Whether it is held for this snapshot."""
        return self.is_of(repo) and self._state["commit"] == commit

    def now(self) -> float:
        """The time by the volume's own clock: that which a file gets when it is touched."""
        self.beat()
        with contextlib.suppress(FileNotFoundError):
            return self._file.stat().st_mtime
        return time.time()

    def check(self) -> None:
        """Raises LeaseLost when another process has it."""
        if self._lost.is_set() or not self._file.exists():
            self._lost.set()
            raise LeaseLost(self.token)

    def beat(self) -> bool:
        """Show that the holder lives; False when the lease is lost."""
        self._state["beat"] += 1  # type: ignore[operator]
        record = json.dumps(self._state).encode().ljust(RECORD)
        try:
            descriptor = os.open(self._file, os.O_WRONLY)  # not created: the name is the lease
        except FileNotFoundError:
            self._lost.set()
            return False
        except OSError:
            return True  # the volume does not answer; others see no heartbeat, and decide
        try:
            os.pwrite(descriptor, record, 0)
        except OSError:  # a full disk
            with contextlib.suppress(OSError):
                os.utime(self._file)
        finally:
            os.close(descriptor)
        return True

    def _beat_on(self) -> None:
        while not self._ended.wait(self._timing.beat_s):
            if not self.beat():
                return


class Waiter:
    """One process that wants the lease; it asks again and again, and meanwhile sees who has it."""

    def __init__(self, repo: Path, timing: Timing = Timing(), clock: Callable[[], float] = time.monotonic) -> None:
        self.holder: Holder | None = None
        self._repo = repo
        self._folder = repo / FOLDER
        self._timing = timing
        self._clock = clock
        self._since = clock()

    def attempt(self) -> Lease | None:
        """The lease, if it is free or its holder is dead; else None, at once.

        Raises:
            OSError: the volume cannot be written.
        """
        self._look()
        token = uuid.uuid4().hex
        if not (self._create(token) if self.holder is None else self._take_over(self.holder, token)):
            return None
        lease = Lease(self._folder, token, self._timing)
        return lease if lease.beat() else None  # a renamed file keeps the dead holder's time until then

    def unless_alive(self) -> Lease | None:
        """The lease, if it is free or its holder dead; waits until that is known, which a heartbeat tells."""
        first: Holder | None = None
        while True:
            if lease := self.attempt():
                return lease
            first = first or self.holder
            if first and self.holder and self.holder.seen != first.seen:
                return None
            time.sleep(self._timing.beat_s / 4)

    def _look(self) -> None:
        """See who holds it, and since when without a sign of life, by this process's clock: hosts' clocks differ."""
        before, self.holder = self.holder, read_holder(self._repo)
        if self.holder is None or before is None or self.holder.seen != before.seen:
            self._since = self._clock()

    def _create(self, token: str) -> bool:
        prepared = self._repo / ".incoming" / f"{PREPARED}{token}"
        try:
            prepared.mkdir(parents=True)
            (prepared / token).write_bytes(b"")
            prepared.rename(self._folder)
        except FileNotFoundError:  # tidied away by another process
            return False
        except OSError as exc:
            (prepared / token).unlink(missing_ok=True)
            with contextlib.suppress(FileNotFoundError):
                prepared.rmdir()
            if exc.errno not in (errno.ENOTEMPTY, errno.EEXIST):  # not taken: the volume cannot be written
                raise
            return False
        return True

    def _take_over(self, holder: Holder, token: str) -> bool:
        if self._clock() - self._since < self._timing.stale_s:
            return False
        try:
            (self._folder / holder.token).rename(self._folder / token)
        except FileNotFoundError:  # another was faster, or the holder is done
            return False
        return True


def read_holder(repo: Path) -> Holder | None:
    """Who holds the lease of a model's folder, if anybody does."""
    try:
        token = next(iter(sorted(os.listdir(repo / FOLDER))), None)  # noqa: PTH208 names are all that is wanted
        if token is None:
            return None
        with (repo / FOLDER / token).open("rb") as file:  # opened: network file systems then ask the server
            record, changed = file.read(RECORD), os.fstat(file.fileno()).st_mtime_ns
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        told = json.loads(record)
        seen = (changed, record)
        return Holder(
            token, seen, told["host"], told["pid"], told["done"], told["total"], told["commit"], told["room"]
        )
    except (ValueError, KeyError, TypeError):  # just taken, or killed before its first heartbeat
        return Holder(token, (changed, record))
