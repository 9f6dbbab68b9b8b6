"""Matches jobs that wait with workers that wait."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Protocol

from platforms.local.ledger import Ledger
from platforms.local.roster import Worker
from platforms.local.store import JobRow, Store


@dataclass(eq=False)
class Poll:
    """A worker that waits for up to `size` jobs."""

    worker: Worker
    size: int
    answer: "asyncio.Future[list[JobRow]]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Groups(Protocol):
    """Which jobs are for which workers, where not every worker can run every job."""

    def of_job(self, job_id: str) -> str | None:
        """The group whose workers can run it; None where that is not known yet."""

    def of_worker(self, worker_id: str) -> str | None:
        """The group of a worker; None for one that gets no more jobs."""


class Polls:
    """The workers that wait for jobs; without `groups` they are all alike."""

    groups: Groups | None = None

    def __init__(self, store: Store, ledger: Ledger) -> None:
        self._store = store
        self._ledger = ledger
        self._open: list[Poll] = []

    def open(self, worker: Worker, size: int) -> Poll:
        """Wait for up to `size` jobs."""
        poll = Poll(worker, max(1, size))
        worker.polls += 1
        self._open.append(poll)
        self.hand_out()
        return poll

    def close(self, poll: Poll) -> list[JobRow]:
        """Stop waiting, and take what was handed out."""
        poll.worker.polls -= 1
        if poll in self._open:
            self._open.remove(poll)
        return poll.answer.result() if poll.answer.done() else []

    def release(self, worker: Worker | None = None) -> None:
        """Answer the polls of one worker, or all, with nothing."""
        for poll in [p for p in self._open if worker in (None, p.worker)]:
            self._answer(poll, [])

    def _answer(self, poll: Poll, rows: list[JobRow]) -> None:
        self._open.remove(poll)
        poll.answer.set_result(rows)

    def hand_out(self) -> None:
        """Give what is queued to those who wait: each job to the worker with the least to do.

        A job that was lost while it ran goes out alone, so that it takes no other with it should it be the cause.
        """
        if not self._open:
            return
        running = self._store.in_progress()
        held = Counter(row.worker for row in running)
        closed = {row.worker for row in running if row.retries}
        given: dict[Poll, list[JobRow]] = {}
        barred: set[str | None] = {None}
        for row in self._store.queued(-1 if self.groups else sum(poll.size for poll in self._open)):
            group = self.groups.of_job(row.id) if self.groups else ""
            if group in barred:
                continue
            poll = self._best(row, group, held, closed, given)
            if poll is None and row.retries:
                barred.add(group)  # the next worker to fall idle is its own, or it would wait for ever behind others
            if poll is None:
                continue
            self._ledger.take(row, poll.worker.id)
            given.setdefault(poll, []).append(row)
            held[poll.worker.id] += 1
            if row.retries:
                closed.add(poll.worker.id)
        for poll, rows in given.items():
            self._answer(poll, rows)

    def _best(
        self,
        row: JobRow,
        group: str | None,
        held: Counter[str | None],
        closed: set[str | None],
        given: dict[Poll, list[JobRow]],
    ) -> Poll | None:
        fit = [
            poll
            for poll in self._open
            if len(given.get(poll, ())) < poll.size
            and (self.groups is None or self.groups.of_worker(poll.worker.id) == group)
            and poll.worker.id not in closed
            and poll.worker.accepts(row.id)
            and not (row.retries and held[poll.worker.id])
        ]
        return min(fit, key=lambda poll: held[poll.worker.id], default=None)
