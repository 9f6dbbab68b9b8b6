"""Calls the webhooks of ended jobs."""

import asyncio
import logging
from collections.abc import Callable

from platforms.local.queue import SqliteBackend
from platforms.local.store import JobRow
from shared.errors import JobError

Post = Callable[[str, bytes], int]

log = logging.getLogger(__name__)


class Webhooks:
    """Posts to what is due, each call in a thread of its own; the queue remembers what is still to be called."""

    def __init__(self, backend: SqliteBackend, post: Post) -> None:
        self._backend = backend
        self._post = post
        self._calls: dict[str, asyncio.Task[None]] = {}

    def call_due(self) -> None:
        """Start a call for each webhook that is due and not being called."""
        for row in self._backend.ledger.webhooks_due():
            if row.id not in self._calls:
                self._calls[row.id] = asyncio.create_task(self._call(row))

    async def _call(self, row: JobRow) -> None:
        try:
            body = self._backend.ledger.webhook_body(row)
            delivered = await asyncio.to_thread(self._delivers, row, body)
            self._backend.ledger.webhook_called(row, delivered=delivered)
        finally:
            del self._calls[row.id]

    def _delivers(self, row: JobRow, body: bytes) -> bool:
        try:
            status = self._post(row.webhook or "", body)
        except Exception as exc:  # noqa: BLE001 - a webhook never fails its job, whatever its server does
            said = exc if isinstance(exc, JobError) else type(exc).__name__
            log.warning("webhook of job %s: %s", row.id, said)
            return False
        if not 200 <= status < 300:
            log.warning("webhook of job %s: HTTP %d", row.id, status)
        return 200 <= status < 300

    async def close(self) -> None:
        """Let go of calls under way; they are due again when the server starts."""
        for call in self._calls.values():
            call.cancel()
        await asyncio.gather(*self._calls.values(), return_exceptions=True)
