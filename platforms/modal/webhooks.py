"""Calls the webhook of a job once it has ended, from a function without a card that waits beside it."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

from platforms.modal.jobs import Board, Ended, Ends, Jobs, view_of
from shared import logs
from shared.errors import InsufficientCapacity, NotFound
from shared.job import Clock
from shared.media.fetch import Fetcher
from shared.settings import Settings

DELAYS_S = (0, 5, 15)  # before each try
TIMEOUT_S = 30.0
MAX_BYTES = 2**20  # of an answer, which nobody reads
PAUSE_S = 1.0  # between two looks at a job that has no call yet, or of which Modal does not tell
HOLD_S = 60.0  # a question for its end is held by Modal
LONGEST_S = 23 * 3600  # Modal ends a call after a day

Post = Callable[[str, bytes], int]  # the status of the answer


def post_of(settings: Settings) -> Post:
    """Posts under the fetcher's policy: to no private address."""
    fetcher = Fetcher(max_bytes=MAX_BYTES, timeout_s=TIMEOUT_S, allow_private_hosts=settings.allow_private_hosts)
    return fetcher.post_json


class Webhooks:
    """Waits for the ends of jobs, and tells of them; each at least once where its server takes it, in three tries.

    It lives on where a job's container does not: one that Modal ends at its limit, that ends itself to free a card
    that hangs, or that never started.
    """

    def __init__(self, board: Board, ends: Ends, post: Post, clock: Clock) -> None:
        """Args: `clock` is the wall time in seconds."""
        self._board = board
        self._ends = ends
        self._post = post
        self._clock = clock

    async def follow(self, endpoint: str, job_id: str, created_ms: int, job_input: Any) -> bool:
        """Tell of the job once it has ended; False where that takes longer than Modal lets a call run."""
        jobs = Jobs(endpoint, self._board, self._ends, self._clock)
        loop = asyncio.get_running_loop()
        until = loop.time() + LONGEST_S
        while loop.time() < until:
            try:
                record = await jobs.record(job_id)
                if record["created_ms"] != created_ms:
                    return True  # it was never queued, and submitted again by its id
                if ended := await jobs.ended(job_id, record, HOLD_S, settled=True):
                    await self._tell(job_id, record["webhook"], ended, job_input)
                    return True
            except NotFound:  # it was never queued, or Modal has forgotten it
                return True
            except InsufficientCapacity:
                logs.logger.warning("Modal does not say how a job is", extra={"fields": {"job": job_id}})
            await asyncio.sleep(PAUSE_S)
        return False

    async def _tell(self, job_id: str, url: str, ended: Ended, job_input: Any) -> None:
        """Tries are counted where the next container sees them, for Modal may begin this call anew in one."""
        more = {"input": json.dumps(job_input).encode(), "webhook": json.dumps(url).encode()}
        body = view_of(job_id, ended).to_json(more)
        counted = f"{job_id}/webhook"
        for n in range(await self._board.get(counted) or 0, len(DELAYS_S)):
            await asyncio.sleep(DELAYS_S[n])
            await self._board.put(counted, n + 1)
            if await asyncio.to_thread(self._delivers, url, body):
                await self._board.put(counted, len(DELAYS_S))
                return
        logs.logger.warning("a webhook was given up", extra={"fields": {"job": job_id}})

    def _delivers(self, url: str, body: bytes) -> bool:
        try:
            return 200 <= self._post(url, body) < 300
        except Exception as exc:  # noqa: BLE001 a webhook never fails its job, whatever its server does
            logs.logger.warning("a webhook failed", extra={"fields": {"error": type(exc).__name__}})
            return False
