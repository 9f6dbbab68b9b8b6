"""A real endpoint on loopback with a clock to turn, and the hands of a worker."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import requests

from platforms.local.desk import Desk
from platforms.local.server import LocalServer
from platforms.local.webhooks import Post
from tests.clock import Clock

KEY = "client-key"
TOKEN = "worker-token"
WALL_TIME_S = 1_700_000_000.0
PLAIN_WORKER = Path(__file__).with_name("plain_worker.py")


def until(condition: Callable[[], Any], timeout_s: float = 20.0) -> Any:
    """The condition's value once it is true."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.01)
    return value


class WebhookSink:
    """Takes webhook calls, and answers them with the statuses it is given, then 200."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, bytes]] = []
        self.answers: list[int | Exception] = []

    def post(self, url: str, body: bytes) -> int:
        self.calls.append((url, body))
        answer = self.answers.pop(0) if self.answers else 200
        if isinstance(answer, Exception):
            raise answer
        return answer


class Endpoint:
    """A served endpoint `media`, with its clients' and its workers' side."""

    def __init__(
        self, data_dir: Path, *, strict: bool = False, hold_s: float = 10.0, post: Post | None = None
    ) -> None:
        self.clock = Clock(WALL_TIME_S)
        self.webhooks = WebhookSink()
        self.server = LocalServer(
            data_dir,
            0,
            KEY,
            TOKEN,
            post=post or self.webhooks.post,
            strict=strict,
            clock=self.clock,
            hold_s=hold_s,
        )
        self.base = f"http://127.0.0.1:{self.server.port}/v2"
        self.url = f"{self.base}/media"
        self._threads = ThreadPoolExecutor(16)
        self._session = requests.Session()

    def __enter__(self) -> Self:
        self.server.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._session.close()
        self.server.stop()
        self._threads.shutdown()

    @property
    def desk(self) -> Desk:
        return self.server.backends["media"].desk

    def tick(self) -> None:
        """Do now what the server does ten times a second."""
        self.server.call(self.desk.tick)

    def tasks(self) -> int:
        """How many requests and other tasks the server is at."""
        return int(self.server.call(lambda: len(asyncio.all_tasks())))

    def call(self, method: str, path: str, **kwargs: Any) -> requests.Response:
        """A client's request."""
        headers = {"Authorization": f"Bearer {KEY}", **kwargs.pop("headers", {})}
        return self._session.request(method, f"{self.url}/{path}", headers=headers, timeout=30, **kwargs)

    def submit(self, job_input: dict[str, Any] | None = None, **more: Any) -> str:
        answer = self.call("POST", "run", json={"input": job_input or {"a": 1}, **more})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["id"])

    def status(self, job_id: str) -> dict[str, Any]:
        answer = self.call("GET", f"status/{job_id}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def worker(self, method: str, path: str, **kwargs: Any) -> requests.Response:
        """A worker's request."""
        headers = {"Authorization": TOKEN}
        return requests.request(method, f"{self.url}/{path}", headers=headers, timeout=30, **kwargs)

    def take(self, worker: str = "w1", size: int | None = None) -> list[dict[str, Any]]:
        """Jobs for a worker, as the SDK asks for them."""
        path = f"job-take/{worker}?gpu=X" if size is None else f"job-take-batch/{worker}?gpu=X&batch_size={size}"
        answer = self.worker("GET", f"{path}&job_in_progress=0")
        if answer.status_code == 204:
            return []
        assert answer.status_code == 200, answer.text
        return [answer.json()] if size is None else list(answer.json())

    def take_later(self, worker: str, size: int | None = None) -> "Future[list[dict[str, Any]]]":
        """A poll that is held; returns once it is."""
        held = self.open_polls(worker)
        poll = self._threads.submit(self.take, worker, size)
        until(lambda: poll.done() or self.open_polls(worker) > held)
        return poll

    def later_call(self, function: Callable[..., Any], *args: Any) -> "Future[Any]":
        return self._threads.submit(function, *args)

    def open_polls(self, worker: str) -> int:
        seen = self.desk.roster.get(worker)
        return seen.polls if seen else 0

    def ping(self, worker: str = "w1", *jobs: str, **more: str) -> None:
        query = {"job_id": ",".join(jobs), **more} if jobs or more else {}
        assert self.worker("GET", f"ping/{worker}", params=query).status_code == 200

    def post(self, path: str, body: bytes) -> requests.Response:
        """A report, with the headers of the SDK."""
        headers = {"Authorization": TOKEN, "Content-Type": "application/x-www-form-urlencoded"}
        return requests.post(f"{self.url}/{path}?gpu=X&isStream=false", data=body, headers=headers, timeout=30)

    def done(self, job_id: str, body: bytes = b'{"output":{"ok":1}}', worker: str = "w1") -> requests.Response:
        return self.post(f"job-done/{worker}/{job_id}", body)

    def progress(self, job_id: str, body: bytes = b'{"status":"IN_PROGRESS","output":{"step":1}}') -> None:
        worker = self.status(job_id)["workerId"]
        assert self.done(job_id, body, worker).status_code == 200

    def piece(self, job_id: str, body: bytes, worker: str = "w1") -> requests.Response:
        return self.post(f"job-stream/{worker}/{job_id}", body)


def ids(jobs: list[dict[str, object]]) -> list[object]:
    """Of the jobs that a worker was handed."""
    return [job["id"] for job in jobs]
