"""What a job has told and yielded, read from its pages on the board as often as anybody likes."""

import asyncio
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from platforms.modal.jobs import Board, Jobs
from platforms.modal.journal import Told
from shared.jobs.backend import EventKind, Status

LOOK_EVERY_S = (0.25, 1.0)  # at the board, while a client waits: less often while a job waits for its container
LONGEST_WAIT_S = 140.0  # Modal answers a request of more than 150 s with a redirect
ANSWER_BYTES = 1_000_000  # of pieces in one answer; the next one has more

NOTHING_TOLD: Mapping[str, Any] = {"first": 0, "next": 0, "starts": []}


@dataclass(frozen=True)
class Reading:
    """Numbered events of JSON text, and where to go on; `first` as in StreamView."""

    status: Status
    events: list[tuple[int, EventKind, bytes]]
    next: int
    first: int


class Reader:
    """Reads what the jobs of one endpoint have told."""

    def __init__(self, jobs: Jobs, board: Board) -> None:
        self._jobs = jobs
        self._board = board

    async def read(self, job_id: str, start: int, wait_s: float, *, only_pieces: bool) -> Reading:
        """Events from number `start` on; waits while there are none, or with `only_pieces` no pieces.

        Raises:
            NotFound: there is no such job.
        """
        record = await self._jobs.record(job_id)
        loop = asyncio.get_running_loop()
        until = loop.time() + min(wait_s, LONGEST_WAIT_S)
        while True:
            ended = await self._jobs.ended(job_id, record)  # before the state: what was told before the end is in it
            state = await self._jobs.state(job_id) or NOTHING_TOLD
            told = await self._events(job_id, state, start)
            wanted = [event for event in told if event[1] == "piece" or not only_pieces]
            if wanted or ended or loop.time() >= until:
                break
            start = told[-1][0] + 1 if told else start
            often, seldom = LOOK_EVERY_S
            await asyncio.sleep(often if state["next"] else seldom)
        following = told[-1][0] + 1 if told else max(start, state["first"])
        rest = following < state["next"]
        status: Status = "IN_PROGRESS" if rest or (state["next"] and not ended) else "IN_QUEUE"
        return Reading(ended["status"] if ended and not rest else status, told, following, state["first"])

    async def _events(self, job_id: str, state: Mapping[str, Any], start: int) -> list[tuple[int, EventKind, bytes]]:
        """Events from number `start` on, a megabyte of them or a little more."""
        starts: list[int] = state["starts"]
        found: list[tuple[int, EventKind, bytes]] = []
        size = 0
        for begun, following in itertools.pairwise([*starts, state["next"]]):
            if following <= start or size > ANSWER_BYTES:
                continue
            told: list[Told] = await self._board.get(f"{job_id}/events/{begun}") or []
            found += [(n, kind, text) for n, (kind, text) in enumerate(told, begun) if n >= start]
            size += sum(len(text) for _, text in told)
        return found
