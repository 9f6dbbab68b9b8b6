"""Looks at a job until it has ended, and says what it sees."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from ui.config import Poll
from ui.endpoint import ENDED, Endpoint
from ui.failures import Failure

HEALTH_EVERY_S = 5.0


@dataclass(frozen=True)
class View:
    """One look: the body of `/status`, how long somebody has been waiting, and what keeps the job.

    `health` is known while the job waits for a worker; `trouble` is set while the endpoint does not answer.
    """

    job: dict[str, Any]
    waited_s: float
    health: dict[str, Any] | None = None
    trouble: Failure | None = None

    @property
    def ended(self) -> bool:
        """Whether this is the last look."""
        return self.job["status"] in ENDED


async def follow(endpoint: Endpoint, job: dict[str, Any], poll: Poll) -> AsyncIterator[View]:
    """Views of a job, the last one of its end; `job` is what is known of it, at least `id` and `status`.

    Pauses grow while nothing changes. An endpoint that does not answer is asked again for `poll.patience_s`.

    Raises:
        Failure: the job is unknown, the key is refused, or the endpoint stays away.
    """
    began = answered = time.monotonic()
    doctor = _Doctor(endpoint)
    pause_s = poll.first_s
    while job["status"] not in ENDED:
        trouble, last = None, job
        try:
            job = await endpoint.aside(endpoint.status, job["id"])
            answered = time.monotonic()
        except Failure as failure:
            if not failure.passing or time.monotonic() - answered > poll.patience_s:
                raise
            trouble = failure
        health = await doctor.health() if job["status"] == "IN_QUEUE" and trouble is None else None
        yield View(job, time.monotonic() - began, health, trouble)
        pause_s = poll.first_s if job != last else min(poll.longest_s, poll.growth * pause_s)
        await asyncio.sleep(0 if job["status"] in ENDED else pause_s)


class _Doctor:
    """The endpoint's health, asked for now and then."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._asked = -HEALTH_EVERY_S
        self._health: dict[str, Any] | None = None

    async def health(self) -> dict[str, Any] | None:
        """What the endpoint last said; None where it does not say."""
        if time.monotonic() - self._asked > HEALTH_EVERY_S:
            self._asked = time.monotonic()
            try:
                self._health = await self._endpoint.aside(self._endpoint.health)
            except Failure:  # the job itself is what matters
                self._health = None
        return self._health
