"""The jobs of one endpoint in an SQLite database that one process owns."""

import fcntl
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import IO, Any, Literal

from shared.errors import InsufficientCapacity, InvalidInput
from shared.jobs.backend import EventKind, Status

PayloadKind = Literal["input", "output", "progress"]
DISK_FULL = "the endpoint's disk is full; free space where its data folder is"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY,
    position INTEGER NOT NULL,
    status TEXT NOT NULL,
    sync INTEGER NOT NULL,
    created_at REAL NOT NULL,
    queued_at REAL NOT NULL,
    expires_at REAL NOT NULL,
    ttl_ms INTEGER NOT NULL,
    execution_timeout_ms INTEGER NOT NULL,
    s3_config TEXT,
    webhook TEXT,
    idempotency_key TEXT UNIQUE,
    request_sha256 TEXT,
    worker TEXT,
    taken_at REAL,
    ended_at REAL,
    started INTEGER NOT NULL DEFAULT 0,
    retries INTEGER NOT NULL DEFAULT 0,
    losses INTEGER NOT NULL DEFAULT 0,
    unnamed_pings INTEGER NOT NULL DEFAULT 0,
    error TEXT,
    next_event INTEGER NOT NULL DEFAULT 0,
    first_event INTEGER NOT NULL DEFAULT 0,
    next_unread INTEGER NOT NULL DEFAULT 0,
    webhook_tries INTEGER NOT NULL DEFAULT 0,
    webhook_due_at REAL
);
CREATE INDEX IF NOT EXISTS jobs_by_status ON jobs (status, position);
CREATE INDEX IF NOT EXISTS jobs_by_expiry ON jobs (expires_at);
CREATE INDEX IF NOT EXISTS jobs_by_webhook ON jobs (webhook_due_at) WHERE webhook_due_at IS NOT NULL;
CREATE TABLE IF NOT EXISTS payloads (
    job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    n INTEGER NOT NULL,
    json BLOB NOT NULL,
    PRIMARY KEY (job, kind)
);
CREATE TABLE IF NOT EXISTS told (
    job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    n INTEGER NOT NULL,
    json BLOB NOT NULL,
    PRIMARY KEY (job, n)
);
CREATE TABLE IF NOT EXISTS pieces (
    job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    n INTEGER NOT NULL,
    json BLOB NOT NULL,
    PRIMARY KEY (job, n)
);
"""


@dataclass(frozen=True)
class JobRow:
    """A job without its input and output; times are seconds of the injected clock, s3_config and error JSON text."""

    id: str
    position: int
    status: Status
    sync: int
    created_at: float
    queued_at: float
    expires_at: float
    ttl_ms: int
    execution_timeout_ms: int
    s3_config: str | None = None
    webhook: str | None = None
    idempotency_key: str | None = None
    request_sha256: str | None = None
    worker: str | None = None
    taken_at: float | None = None
    ended_at: float | None = None
    started: int = 0
    retries: int = 0
    losses: int = 0
    unnamed_pings: int = 0
    error: str | None = None
    next_event: int = 0
    first_event: int = 0
    next_unread: int = 0
    webhook_tries: int = 0
    webhook_due_at: float | None = None


_COLUMNS = tuple(f.name for f in fields(JobRow))


class Store:
    """Rows in and out; what they mean is the ledger's business.

    Commits reach the operating system but not the disk (`synchronous=NORMAL`): a killed process loses nothing, a
    power cut the last moments.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = _own(folder / "lock")
        self._db = sqlite3.connect(folder / "jobs.sqlite3", isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.execute("PRAGMA foreign_keys=ON")
        self._db.execute("PRAGMA journal_size_limit=67108864")
        self._db.executescript(_SCHEMA)
        self._add_columns()

    def _add_columns(self) -> None:
        """Those that a database of an earlier version lacks."""
        known = {row[1] for row in self._db.execute("PRAGMA table_info(jobs)")}
        if "first_event" not in known:
            self._db.execute("ALTER TABLE jobs ADD COLUMN first_event INTEGER NOT NULL DEFAULT 0")

    def close(self) -> None:
        """Close the database, and let another process own it."""
        self._db.close()
        self._lock.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of the writes inside, or none.

        Raises:
            InsufficientCapacity: the disk is full.
        """
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException as exc:
            if self._db.in_transaction:  # a full disk may have ended it
                self._db.execute("ROLLBACK")
            if isinstance(exc, sqlite3.OperationalError) and exc.sqlite_errorcode == sqlite3.SQLITE_FULL:
                raise InsufficientCapacity(DISK_FULL) from exc
            raise

    def insert(self, row: JobRow, job_input: bytes) -> None:
        """Add a job."""
        marks = ",".join("?" * len(_COLUMNS))
        with self.transaction():
            self._db.execute(
                f"INSERT INTO jobs ({','.join(_COLUMNS)}) VALUES ({marks})",  # noqa: S608 - names of our own
                [getattr(row, name) for name in _COLUMNS],
            )
            self.put(row.id, "input", job_input)

    def update(self, job_id: str, **columns: Any) -> None:
        """Set columns of one job."""
        assignments = ",".join(f"{name}=?" for name in columns)
        self._db.execute(
            f"UPDATE jobs SET {assignments} WHERE id=?",  # noqa: S608 - names of our own
            [*columns.values(), job_id],
        )

    def delete(self, job_id: str) -> None:
        """Forget a job and all that belongs to it."""
        self._db.execute("DELETE FROM jobs WHERE id=?", (job_id,))

    def get(self, job_id: str) -> JobRow | None:
        """One job."""
        return next(self._rows("id=?", job_id), None)

    def by_idempotency_key(self, key: str) -> JobRow | None:
        """The job that was submitted with this key."""
        return next(self._rows("idempotency_key=?", key), None)

    def queued(self, limit: int = -1) -> list[JobRow]:
        """Jobs that wait, first come first."""
        return list(self._rows("status='IN_QUEUE' ORDER BY position LIMIT ?", limit))

    def in_progress(self, worker: str | None = None) -> list[JobRow]:
        """Jobs that workers hold, or that one of them holds."""
        if worker is None:
            return list(self._rows("status='IN_PROGRESS' ORDER BY position"))
        return list(self._rows("status='IN_PROGRESS' AND worker=? ORDER BY position", worker))

    def expired(self, now: float) -> list[JobRow]:
        """Jobs whose time to live, or to be kept, is over."""
        return list(self._rows("expires_at<=?", now))

    def webhooks_due(self, now: float) -> list[JobRow]:
        """Ended jobs whose webhook is to be called."""
        return list(self._rows("webhook_due_at<=?", now))

    def _rows(self, where: str, *values: Any) -> Iterator[JobRow]:
        query = f"SELECT {','.join(_COLUMNS)} FROM jobs WHERE {where}"  # noqa: S608 - conditions of our own
        return (JobRow(*row) for row in self._db.execute(query, values))

    def counts(self) -> dict[str, int]:
        """Jobs by status."""
        return dict(self._db.execute("SELECT status, COUNT(*) FROM jobs GROUP BY status"))

    def count_queued(self) -> int:
        """How many jobs wait."""
        return int(self._db.execute("SELECT COUNT(*) FROM jobs WHERE status='IN_QUEUE'").fetchone()[0])

    def retried(self) -> int:
        """Jobs that were handed out a second time."""
        return int(self._db.execute("SELECT COUNT(*) FROM jobs WHERE retries>0").fetchone()[0])

    def last_position(self) -> int:
        """Where the youngest job stands in the queue's order."""
        return int(self._db.execute("SELECT COALESCE(MAX(position), 0) FROM jobs").fetchone()[0])

    def put(self, job_id: str, kind: PayloadKind, json_text: bytes, n: int = 0) -> None:
        """Store an input, an output, or the last progress as event `n`."""
        self._db.execute("INSERT OR REPLACE INTO payloads VALUES (?,?,?,?)", (job_id, kind, n, json_text))

    def payload(self, job_id: str, kind: PayloadKind) -> bytes | None:
        """What `put` stored."""
        query = "SELECT json FROM payloads WHERE job=? AND kind=?"
        row = self._db.execute(query, (job_id, kind)).fetchone()
        return bytes(row[0]) if row else None

    def drop(self, job_id: str, *kinds: PayloadKind) -> None:
        """Forget payloads."""
        self._db.executemany("DELETE FROM payloads WHERE job=? AND kind=?", [(job_id, kind) for kind in kinds])

    def add_piece(self, job_id: str, n: int, json_text: bytes) -> None:
        """Store a piece of the stream as event `n`."""
        self._db.execute("INSERT INTO pieces VALUES (?,?,?)", (job_id, n, json_text))

    def pieces(self, job_id: str, start: int) -> Iterable[tuple[int, bytes]]:
        """Pieces from event `start` on."""
        query = "SELECT n, json FROM pieces WHERE job=? AND n>=? ORDER BY n"
        return self._db.execute(query, (job_id, start))

    def add_told(self, job_id: str, n: int, json_text: bytes, most: int) -> None:
        """Store a progress as event `n`, and forget those that are more than `most` events old."""
        self._db.execute("INSERT INTO told VALUES (?,?,?)", (job_id, n, json_text))
        self._db.execute("DELETE FROM told WHERE job=? AND n<=?", (job_id, n - most))

    def events(self, job_id: str, start: int) -> Iterable[tuple[int, EventKind, bytes]]:
        """Progress and pieces from event `start` on, in their order."""
        query = (
            "SELECT n, 'progress', json FROM told WHERE job=:job AND n>=:start UNION ALL "
            "SELECT n, 'piece', json FROM pieces WHERE job=:job AND n>=:start ORDER BY n"
        )
        return self._db.execute(query, {"job": job_id, "start": start})

    def drop_events(self, job_id: str) -> None:
        """Forget the stream, and what was told of the progress."""
        self._db.execute("DELETE FROM pieces WHERE job=?", (job_id,))
        self._db.execute("DELETE FROM told WHERE job=?", (job_id,))


def _own(path: Path) -> IO[str]:
    lock = path.open("a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # released by the system, also after kill -9
    except OSError as exc:
        lock.close()
        raise InvalidInput(
            f"{path.parent} belongs to an endpoint that runs already; stop it, or use another data folder"
        ) from exc
    return lock
