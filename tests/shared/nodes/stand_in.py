"""A small HTTP server in a node's place: it answers what a test wants, and remembers what it was asked."""

import hashlib
import json
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from PIL import Image

from shared.media.image import encode_image
from shared.media.source import data_url
from tests.shared.jobs import scripted

MODEL = "acme/draw"
PICTURE = encode_image(Image.linear_gradient("L").resize((8, 8)).convert("RGB"), "png")
BREAK = "break"  # in place of a chunk: the connection ends there


@dataclass
class Asked:
    """A request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any


@dataclass
class Answer(scripted.Answer):
    """What is answered: `hold` waits first, `chunks` are sent one by one."""

    hold: threading.Event | None = None
    chunks: list[Any] | None = None


def drawn(model: str = MODEL, **receipt: Any) -> dict[str, Any]:
    """A result with one picture, as a container answers it."""
    stated = [{"sha256": hashlib.sha256(PICTURE).hexdigest()}]
    return {
        "images": [{"url": data_url(PICTURE, "image/png"), "seed": 7, "nsfw": False}],
        "metrics": {"run_s": 0.5},
        "receipt": {"model": {"id": model, "revision": "abc"}, "seed": 7, "steps": 3, "outputs": stated, **receipt},
    }


def event(**body: Any) -> bytes:
    """One event of a text."""
    return f"data: {json.dumps(body)}\n\n".encode()


def refused(status: int, code: str, **more: Any) -> Answer:
    """An error as a container answers it."""
    headers = {"Retry-After": "7"} if status in (429, 503) else {}
    return Answer(status, {"detail": {"code": code, "msg": "no", **more}}, headers)


def capabilities(*, warm: bool = False, busy: int = 0, capacity: int = 1, model: str = MODEL) -> dict[str, Any]:
    """What a container says of itself."""
    return {
        "version": "0.1.0",
        "worker": "there",
        "load": {"running": busy, "waiting": 0, "capacity": capacity, "queue_max": 8},
        "capabilities": [{"pipeline": "draw", "models": [{"model_id": model, "warm": warm}]}],
    }


WARM = Answer(body=capabilities(warm=True))


class StandIn(ThreadingHTTPServer):
    """Answers jobs by `jobs`, then `otherwise`; and what it is asked about itself by `about`."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, *jobs: Answer, otherwise: Answer | None = None, about: Answer | None = None) -> None:
        self.jobs = deque(jobs)
        self.otherwise = otherwise or Answer(body=drawn())
        self.about = about or Answer(body=capabilities())
        self.asked: list[Asked] = []
        self.cancelled = Answer(body={"id": "there", "status": "CANCELLED"})
        self.hung_up = threading.Event()
        self.by: Callable[[Asked], Answer | None] = lambda asked: None
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Tests break connections: nobody needs to read of it."""

    def posts(self) -> list[Asked]:
        """The jobs."""
        return [asked for asked in self.asked if asked.method == "POST" and not asked.path.startswith("/cancel/")]

    def cancels(self) -> list[str]:
        """The ids of jobs that were to be cancelled."""
        return [asked.path.removeprefix("/cancel/") for asked in self.asked if asked.path.startswith("/cancel/")]

    def answer(self, asked: Asked) -> Answer:
        self.asked.append(asked)
        if (found := self.by(asked)) is not None:
            return found
        if asked.method == "GET":
            return self.about
        if asked.path.startswith("/cancel/"):
            return self.cancelled
        return self.jobs.popleft() if self.jobs else self.otherwise


class _Handler(BaseHTTPRequestHandler):
    def _serve(self) -> None:
        assert isinstance(self.server, StandIn)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        asked = Asked(self.command, self.path, dict(self.headers), json.loads(body) if body else None)
        answer = self.server.answer(asked)
        if answer.hold:
            self._hold(answer.hold)
        if answer.drop:
            return
        raw = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
        self.send_response(answer.status)
        headers = {"Content-Type": "application/json", "Content-Length": str(len(raw)), **answer.headers}
        if answer.chunks is not None:
            headers = {"Content-Type": "text/event-stream"}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if answer.chunks is None:
            self.wfile.write(raw)
        for chunk in answer.chunks or ():
            if chunk == BREAK:
                return
            if isinstance(chunk, threading.Event):
                self._hold(chunk)
            else:
                self.wfile.write(chunk)
                self.wfile.flush()

    def _hold(self, until: threading.Event) -> None:
        """Wait, and notice who hangs up meanwhile."""
        assert isinstance(self.server, StandIn)
        self.connection.settimeout(0.02)
        while not until.is_set():
            try:
                if not self.connection.recv(1):
                    self.server.hung_up.set()
                    return
            except TimeoutError:
                continue

    do_GET = do_POST = _serve  # noqa: N815 - names of the base class

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name in the base class
        pass
