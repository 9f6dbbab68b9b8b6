"""An endpoint with its workers on this machine, to be used in a `with` statement."""

import math
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Self

import handlers
from platforms.local.fleet import Fleet, Placing
from platforms.local.seats import Starter
from platforms.local.server import HOST, LocalServer, webhook_post
from platforms.local.warm_routes import warm_router
from platforms.local.webhooks import Post
from platforms.local.workers import WORKER_COMMAND, WorkerPool, worker_env
from shared.errors import InsufficientCapacity
from shared.plan import Planner
from shared.settings import Settings, inherited


class LocalEndpoint:
    """RunPod's endpoint, queue and workers, on loopback.

    Args:
        data_dir: jobs, results and logs; a second endpoint on it is refused.
        env: what the workers' environment has besides this process's own.
        workers: how many workers each endpoint has; 0 starts none. With `placing`, how many a model may have.
        endpoints: endpoint ids, and what their workers' environment has besides `env`.
        key: what clients send; a new one when not given.
        command: what a worker is.
        post: delivers webhooks; by default with the fetcher's policy and `allow_private_hosts`.
        ready_timeout_s: how long to wait for each endpoint's first worker; None while it lives, for it may download.
        placing: on which cards workers are placed, one for each model that jobs ask for; see `fleet`.

    Raises:
        InvalidInput: when another process owns the data folder.
        InsufficientCapacity: when no worker gets as far as asking for a job, with the end of its log, or no card can
            hold a model that is to be warm.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        workers: int = 1,
        port: int = 0,
        env: Mapping[str, str] | None = None,
        endpoints: Mapping[str, Mapping[str, str]] | None = None,
        key: str | None = None,
        strict: bool = False,
        command: Sequence[str] = WORKER_COMMAND,
        post: Post | None = None,
        allow_private_hosts: str = "",
        ping_interval_ms: int = 1000,
        ready_timeout_s: float | None = 300.0,
        drain_s: float = 30.0,
        placing: Placing | None = None,
    ) -> None:
        endpoints = endpoints or {"media": {}}
        self.names = tuple(endpoints)
        self.key = key or secrets.token_urlsafe(24)
        self.logs = data_dir / "logs"
        self._ready_timeout_s = ready_timeout_s
        self._ready = {endpoint: threading.Event() for endpoint in endpoints}
        token = secrets.token_urlsafe(24)
        self.server = LocalServer(
            data_dir,
            port,
            self.key,
            token,
            post=post or webhook_post(allow_private_hosts),
            endpoints=tuple(endpoints),
            strict=strict,
            ping_interval_ms=ping_interval_ms,
            workers=workers,
        )
        self.port = self.server.port
        self.url = f"http://{HOST}:{self.port}/v2"
        self._data = data_dir
        self._command = command
        self._drain_s = drain_s
        self.pools: dict[str, WorkerPool] = {}
        self.fleet: Fleet | None = None
        try:
            own = self._env(token, ping_interval_ms, files=not strict)
            envs = {name: {**own(name), **(env or {}), **more} for name, more in endpoints.items()}
            self._staff(envs, workers, placing)
        except BaseException:
            self.server.close()
            raise

    def _env(self, token: str, ping_interval_ms: int, *, files: bool) -> Callable[[str], dict[str, str]]:
        """What the workers of an endpoint get, by its id."""
        home = self._data / "home"
        home.mkdir(exist_ok=True)

        def own(endpoint: str) -> dict[str, str]:
            url = f"{self.url}/{endpoint}"
            return worker_env(inherited(), url, token, home, ping_interval_ms=ping_interval_ms, files=files)

        return own

    def _staff(self, envs: Mapping[str, Mapping[str, str]], workers: int, placing: Placing | None) -> None:
        if placing:
            self.fleet = self._fleet(envs, workers, placing)
        else:
            for endpoint, env in envs.items():
                pool = self.pools[endpoint] = self._pool(endpoint, endpoint, env, workers)
                desk = self.server.backends[endpoint].desk
                desk.on_ready = partial(self._on_ready, endpoint)
                desk.on_stop_pod = pool.restart
        self.server.app.include_router(warm_router(self.fleet, self.server.backends, self.key))

    def _pool(self, endpoint: str, prefix: str, env: Mapping[str, str], count: int = 1) -> WorkerPool:
        return WorkerPool(
            count,
            env,
            self.logs,
            on_exit=partial(self._on_exit, endpoint),
            on_stopping=partial(self._on_stopping, endpoint),
            command=self._command,
            prefix=prefix,
            drain_s=self._drain_s,
        )

    def _fleet(self, envs: Mapping[str, Mapping[str, str]], workers: int, placing: Placing) -> Fleet:
        planners = {}
        for endpoint, env in envs.items():
            settings = Settings.from_env(env)
            planners[endpoint] = Planner(settings, handlers.Folders(settings.handlers))
        starter = Starter(envs, self._data / "workers", self._pool)
        return Fleet(self.server, planners, starter, placing, self._data, most=workers)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the server and the workers, and wait for the first worker of each endpoint."""
        self.server.start()
        try:
            if self.fleet:
                self.fleet.start(self._ready_timeout_s)
            for pool in self.pools.values():
                pool.start()
            for endpoint, pool in self.pools.items():
                if pool.count:
                    self._wait_ready(endpoint, pool)
        except BaseException:
            self.stop()
            raise

    def _wait_ready(self, endpoint: str, pool: WorkerPool) -> None:
        timeout_s = math.inf if self._ready_timeout_s is None else self._ready_timeout_s
        until = time.monotonic() + timeout_s
        while not self._ready[endpoint].wait(0.1):
            if pool.error is not None:
                raise pool.error
            if time.monotonic() > until:
                raise InsufficientCapacity(
                    f"no worker of `{endpoint}` was ready within {timeout_s:.0f} s; see {self.logs}"
                )

    def stop(self) -> None:
        """Let the workers finish what they have, then stop the server."""
        if self.fleet:
            self.fleet.stop()
        stops = [threading.Thread(target=pool.stop) for pool in self.pools.values()]
        for stop in stops:
            stop.start()
        for stop in stops:
            stop.join()
        self.server.stop()

    def _on_ready(self, endpoint: str, worker_id: str) -> None:
        self.pools[endpoint].note_ready(worker_id)
        self._ready[endpoint].set()

    def _on_exit(self, endpoint: str, worker_id: str) -> None:
        self.server.call(partial(self.server.backends[endpoint].desk.worker_lost, worker_id))

    def _on_stopping(self, endpoint: str, worker_id: str) -> None:
        self.server.call(partial(self.server.backends[endpoint].desk.dismiss, worker_id))
