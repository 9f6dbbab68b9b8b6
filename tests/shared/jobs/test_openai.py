"""How long OpenAI's routes are silent; the rest of them is tests/platforms/test_local_openai.py."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI

from shared.jobs.backend import JobView, StreamView, Submission
from shared.jobs.openai import openai_router
from shared.jobs.uploads import Uploads
from shared.jobs.wire import MIB


class Slow:
    """A backend whose one job yields a piece at the third look, and then ends."""

    def __init__(self) -> None:
        self.looks = 0

    async def submit(self, submission: Submission) -> JobView:
        return JobView("j", "IN_QUEUE")

    async def status(self, job_id: str) -> JobView:
        return JobView(job_id, "COMPLETED")

    async def stream(self, job_id: str, start: int, wait_s: float) -> StreamView:
        self.looks += 1
        if self.looks < 3:
            await asyncio.sleep(wait_s)
            return StreamView("IN_QUEUE", [], 0)
        return StreamView("COMPLETED", [(0, b'"data: 1\\n\\n"')] if start == 0 else [], 1)


async def post(app: FastAPI, path: str, body: bytes) -> AsyncIterator[dict[str, Any]]:
    """What the application sends for a request whose client stays."""
    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [],
    }
    received, sent = [{"type": "http.request", "body": body, "more_body": False}], asyncio.Queue[dict[str, Any]]()

    async def receive() -> dict[str, Any]:
        if received:
            return received.pop()
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Any) -> None:
        await sent.put(message)

    serving = asyncio.create_task(app(scope, receive, send))
    while not (serving.done() and sent.empty()):
        yield await sent.get()
        await asyncio.sleep(0)
    await serving


def test_a_stream_without_a_piece_is_kept_alive_by_comments() -> None:
    app, backend = FastAPI(), Slow()
    router = openai_router(lambda _: backend, Uploads(MIB), hold_s=0.01)  # type: ignore[arg-type, return-value]
    app.include_router(router, prefix="/{endpoint}")

    async def bodies() -> list[bytes]:
        return [m["body"] async for m in post(app, "/x/openai/v1/completions", b'{"stream":true}') if "body" in m]

    assert asyncio.run(bodies()) == [b": waiting\n\n", b": waiting\n\n", b"data: 1\n\n", b""]
