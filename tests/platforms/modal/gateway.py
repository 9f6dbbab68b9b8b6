"""The web application on loopback, in a thread."""

import asyncio
import socket
import threading
from collections.abc import Callable
from typing import Any, Self

import modal
import uvicorn
from fastapi import FastAPI

from platforms.modal.engine import web_of
from shared.jobs.client import Client
from tests.platforms.harness import until

TOKEN = "token-of-clients"


def deployed_web() -> FastAPI:
    """The web application of the app that Modal's client finds, made in this process."""
    board = modal.Dict.from_name("pilotlight-jobs", create_if_missing=True)
    app: FastAPI = web_of("pilotlight", board, modal.Volume.from_name("models"))
    return app


class Gateway:
    """Serves what `make` returns, which is called on the server's loop."""

    def __init__(self, make: Callable[[], FastAPI], token: str = TOKEN) -> None:
        self._make = make
        self._token = token
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._server: uvicorn.Server | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        async def serve() -> None:
            self._server = uvicorn.Server(uvicorn.Config(self._make(), log_config=None, timeout_graceful_shutdown=2))
            await self._server.serve(sockets=[self._listening])

        asyncio.run(serve())

    def __enter__(self) -> Self:
        self._thread.start()
        until(lambda: self._server and self._server.started, 60)
        return self

    def __exit__(self, *_exc: object) -> None:
        if self._server:
            self._server.should_exit = True
        self._thread.join()
        self._listening.close()

    def client(self, endpoint: str = "media", **more: Any) -> Client:
        return Client(f"{self.url}/v2", endpoint, self._token, **more)
