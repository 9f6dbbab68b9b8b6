"""Serves an endpoint of this machine, both sides of the protocol, on loopback."""

import argparse
import asyncio
import contextlib
import logging
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import TypeVar

import uvicorn
from fastapi import FastAPI

from platforms.local.queue import SqliteBackend
from platforms.local.webhooks import Post, Webhooks
from platforms.local.worker_routes import worker_router
from shared.job import Clock
from shared.jobs.api import client_app
from shared.jobs.uploads import Uploads
from shared.settings import Settings

T = TypeVar("T")

HOST = "127.0.0.1"
_TICK_S = 0.1
_GRACE_S = 5

log = logging.getLogger(__name__)


class LocalServer:
    """The server and its queues; opens the data folder at once, so that a second one on it is refused here.

    Args:
        data_dir: holds a folder for each endpoint.
        port: 0 takes a free one; see `self.port`.
        key: what clients send.
        worker_token: what workers send; neither opens the other's routes.
        post: delivers a webhook: (url, body) to the HTTP status.
        workers: how many workers each endpoint is meant to have; the queue's length depends on it.
        hold_s: how long a worker's poll is held.

    Raises:
        InvalidInput: when another process owns the data folder.
        OSError: when the port is taken.
    """

    def __init__(
        self,
        data_dir: Path,
        port: int,
        key: str,
        worker_token: str,
        *,
        post: Post,
        endpoints: Sequence[str] = ("media",),
        strict: bool = False,
        ping_interval_ms: int = 1000,
        workers: int = 0,
        clock: Clock = time.time,
        hold_s: float = 15.0,
    ) -> None:
        self._socket = socket.create_server((HOST, port))
        self.port: int = self._socket.getsockname()[1]
        self.backends: dict[str, SqliteBackend] = {}
        try:
            for endpoint in endpoints:
                self.backends[endpoint] = SqliteBackend(
                    data_dir / endpoint,
                    endpoint,
                    clock,
                    strict=strict,
                    ping_interval_s=ping_interval_ms / 1000,
                    workers=workers,
                )
        except BaseException:
            self.close()
            raise
        self._post = post
        self._ready = threading.Event()
        self.app = client_app(
            self.backends,
            key,
            uploads=Uploads(Settings.model_fields["max_media_bytes"].default),
            strict=strict,
            routers=(worker_router(self.backends, worker_token, strict=strict, hold_s=hold_s),),
            lifespan=self._lifespan,
        )
        self._server = _Uvicorn(self.app, self._let_go)
        self._thread = threading.Thread(target=self.run, name="endpoint", daemon=True)

    def run(self) -> None:
        """Serve until a signal arrives (in the main thread) or `stop` is called."""
        try:
            self._server.run(sockets=[self._socket])
        finally:
            self.close()

    def start(self) -> None:
        """Serve in a thread; returns once requests are answered."""
        self._thread.start()
        self._ready.wait()

    def stop(self) -> None:
        """Stop the thread; held polls are let go."""
        self._server.should_exit = True
        self._thread.join()

    def call(self, function: Callable[[], T]) -> T:
        """Run a function in the server's loop, where the queues live, and return what it returns."""

        async def run() -> T:
            return function()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result()

    def _let_go(self) -> None:
        for backend in self.backends.values():
            backend.stop_waiting()

    def close(self) -> None:
        """Let the port and the data folder go, of one that was never started; the others do it by themselves."""
        self._socket.close()
        for backend in self.backends.values():
            backend.close()

    @contextlib.asynccontextmanager
    async def _lifespan(self, _app: FastAPI) -> AsyncIterator[None]:
        self._loop = asyncio.get_running_loop()
        upkeep = asyncio.create_task(self._upkeep())
        self._ready.set()
        yield
        upkeep.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await upkeep

    async def _upkeep(self) -> None:
        webhooks = [Webhooks(backend, self._post) for backend in self.backends.values()]
        try:
            while True:
                try:
                    for backend in self.backends.values():
                        backend.desk.tick()
                    for calls in webhooks:
                        calls.call_due()
                except Exception:  # such as a full disk, which may pass
                    log.exception("the endpoint's upkeep failed")
                await asyncio.sleep(_TICK_S)
        finally:
            for calls in webhooks:
                await calls.close()


class _Uvicorn(uvicorn.Server):
    """uvicorn, except that it lets held polls go before it waits for requests to end."""

    def __init__(self, app: FastAPI, let_go: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                timeout_keep_alive=75,
                timeout_graceful_shutdown=_GRACE_S,
            )
        )
        self._let_go = let_go

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._let_go()
        await super().shutdown(sockets)


def webhook_post(allow_private_hosts: str) -> Post:
    """A webhook call that keeps to the fetcher's policy: no private address but those that are named."""
    from shared.media.fetch import Fetcher

    fetcher = Fetcher(max_bytes=2**20, timeout_s=30, allow_private_hosts=allow_private_hosts)
    return fetcher.post_json


def main() -> None:
    """`python -m platforms.local.server`: an endpoint without workers."""
    parser = argparse.ArgumentParser(prog="python -m platforms.local.server")
    parser.add_argument("--data", type=Path, required=True, help="folder for jobs and results")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--key", required=True, help="what clients send")
    parser.add_argument("--worker-token", required=True, help="what workers send")
    parser.add_argument("--endpoint", action="append", help="endpoint id, may be repeated (default: media)")
    parser.add_argument("--strict", action="store_true", help="keep to RunPod's own limits")
    parser.add_argument("--ping-interval-ms", type=int, default=1000)
    parser.add_argument("--allow-private-hosts", default="", help="host:port,... that webhooks may name")
    args = parser.parse_args()
    server = LocalServer(
        args.data,
        args.port,
        args.key,
        args.worker_token,
        post=webhook_post(args.allow_private_hosts),
        endpoints=args.endpoint or ("media",),
        strict=args.strict,
        ping_interval_ms=args.ping_interval_ms,
    )
    with contextlib.suppress(KeyboardInterrupt):
        server.run()


if __name__ == "__main__":
    main()
