"""What a job tells while it runs: written to a board by its container, read there by the web function."""

import json
import math
import threading
import time
from collections.abc import Mapping
from typing import Any, Literal, Protocol

from shared import logs
from shared.job import Event, Piece

EVERY_S = 0.1  # between two writes of one job; each is a request to Modal
CLOSES_WITHIN_S = 10.0
MOST_BYTES = 1_000_000  # of events in one write; Modal advises less than 5 MiB
PAGE_BYTES = 32_000  # an entry has at least so many, unless it is the last: who reads them asks for each entry

Told = tuple[Literal["progress", "piece"], bytes]  # JSON text


class Board(Protocol):
    """Entries by name that every container of the app sees, each kept for days: `modal.Dict`, or a stand-in."""

    def get(self, name: str) -> Any:
        """The entry; None where there is none."""

    def update(self, entries: Mapping[str, Any]) -> None:
        """Write them all."""


class Journal:
    """Writes one job's progress and pieces, from any thread and without keeping it waiting; the latest progress wins.

    `events/{n}` holds the events from number n on, `state` where such pages begin, the last progress and who runs the
    job.
    A job that begins anew, because its container was lost, goes on with the numbers and says from where it counts.
    """

    def __init__(self, board: Board, job_id: str, *, call: str, worker: str) -> None:
        """Begin; waits for the board."""
        self._board = board
        self._job_id = job_id
        before = board.get(f"{job_id}/state") or {"next": 0, "runs": 0}
        self._state: dict[str, Any] = {
            "call": call,
            "worker": worker,
            "runs": before["runs"] + 1,
            "first": before["next"],
            "next": before["next"],
            "starts": [],
            "progress": None,
            "started_ms": None,
        }
        self._told: list[Told] = []
        self._page: list[Told] = []
        self._progress: dict[str, Any] | None = None
        self._preview: str | None = None
        self._lock = threading.Lock()
        self._arrived = threading.Event()
        self._closed = False
        self._gives_up_at = math.inf
        self._thread = threading.Thread(target=self._write_all, name=f"journal-{job_id[:8]}", daemon=True)
        self._write()
        self._thread.start()

    def hear(self, event: Event) -> None:
        """Take what a job reports; returns at once."""
        if isinstance(event, Piece):
            self.piece(event.value)
            return
        said = event.as_dict()
        with self._lock:
            # a poll sees the last progress only: the picture stays in it until there is a newer one
            self._preview = said.pop("preview", None) or self._preview
            if self._told and self._told[-1][0] == "progress":
                self._told.pop()
            self._told.append(("progress", json.dumps(said).encode()))
            self._progress = said
        self._arrived.set()

    def piece(self, value: Any) -> None:
        """Take a piece of the output; returns at once."""
        with self._lock:
            self._told.append(("piece", json.dumps(value).encode()))
        self._arrived.set()

    @property
    def started_ms(self) -> int | None:
        """When the job began to do more than wait for its files; after `close`."""
        started: int | None = self._state["started_ms"]
        return started

    @property
    def runs(self) -> int:
        """How often the job was begun."""
        return int(self._state["runs"])

    def kept(self) -> bytes | None:
        """The last progress, where it says where results are that stay; after `close`."""
        return kept(self._state)

    def close(self) -> None:
        """Write what is left; what the board does not take in time is not told."""
        self._gives_up_at = time.monotonic() + CLOSES_WITHIN_S
        self._closed = True
        self._arrived.set()
        self._thread.join(CLOSES_WITHIN_S)

    def _write_all(self) -> None:
        while True:
            self._arrived.wait()
            self._arrived.clear()
            begun, closing = time.monotonic(), self._closed
            is_told = self._try()
            if closing and (is_told or time.monotonic() > self._gives_up_at):
                return
            while not (self._closed and is_told) and (left := begun + EVERY_S - time.monotonic()) > 0:
                time.sleep(min(left, 0.02))

    def _try(self) -> bool:
        try:
            while self._write():
                pass
        except Exception as exc:  # noqa: BLE001 whatever Modal raises: a progress that nobody sees fails no job
            logs.logger.warning("not told", extra={"fields": {"job": self._job_id, "error": repr(exc)}})
            self._arrived.set()
            return False
        return True

    def _write(self) -> bool:
        """Write some of what has gathered; whether there is more."""
        with self._lock:
            told, size = [], 0
            while self._told and size < MOST_BYTES:
                told.append(self._told[0])
                size += len(self._told.pop(0)[1])
            progress = {**self._progress, "preview": self._preview} if self._progress else None
            more = bool(self._told)
        entries: dict[str, Any] = {}
        state, page = {**self._state, "progress": progress}, self._page
        if told:
            if not page or sum(len(text) for _, text in page) >= PAGE_BYTES:
                page, state["starts"] = [], [*state["starts"], state["next"]]
            page = [*page, *told]
            entries[f"{self._job_id}/events/{state['starts'][-1]}"] = page
            state["next"] += len(told)
        if progress and progress["stage"] not in ("queued", "downloading"):
            state["started_ms"] = state["started_ms"] or round(time.time() * 1000)
        try:
            self._board.update({**entries, f"{self._job_id}/state": state})
        except Exception:
            with self._lock:
                self._told[:0] = told
            raise
        self._state, self._page = state, page
        return more


def kept(state: Mapping[str, Any]) -> bytes | None:
    """The last progress of a job, where it says where results are that stay whatever becomes of it."""
    progress = state["progress"]
    return progress_of(state) if progress and progress.get("kept") else None


def progress_of(state: Mapping[str, Any]) -> bytes | None:
    """The latest progress as `/status` shows it."""
    progress = state["progress"]
    return None if progress is None else json.dumps({k: v for k, v in progress.items() if v is not None}).encode()
