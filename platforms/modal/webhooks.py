"""Calls the webhooks of ended jobs beside the jobs that follow."""

import time
from concurrent.futures import ThreadPoolExecutor

from shared import logs
from shared.media.fetch import Fetcher
from shared.settings import Settings

DELAYS_S = (0, 2, 10)  # before each try
TIMEOUT_S = 30.0
MAX_BYTES = 2**20  # of an answer, which nobody reads


class Webhooks:
    """Posts under the fetcher's policy: to no private address."""

    def __init__(self, settings: Settings) -> None:
        self._fetcher = Fetcher(
            max_bytes=MAX_BYTES, timeout_s=TIMEOUT_S, allow_private_hosts=settings.allow_private_hosts
        )
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="webhook")

    def call(self, url: str, body: bytes) -> None:
        """Post it, now and if need be a while later; returns at once."""
        self._threads.submit(self._call, url, body)

    def _call(self, url: str, body: bytes) -> None:
        for delay_s in DELAYS_S:
            time.sleep(delay_s)
            if self._delivers(url, body):
                return
        logs.logger.warning("a webhook was given up")

    def _delivers(self, url: str, body: bytes) -> bool:
        try:
            return 200 <= self._fetcher.post_json(url, body) < 300
        except Exception as exc:  # noqa: BLE001 a webhook never fails its job, whatever its server does
            logs.logger.warning("a webhook failed", extra={"fields": {"error": type(exc).__name__}})
            return False

    def close(self) -> None:
        """Wait for what is under way."""
        self._threads.shutdown()
