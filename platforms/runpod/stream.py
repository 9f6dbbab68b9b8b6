"""The handler of a worker whose pipelines all stream: text leaves in pieces while the job runs."""

import json
from collections.abc import AsyncGenerator, Iterator
from typing import Any

from platforms.runpod.jobs import Worker, hidden, is_openai, wants_events
from shared import openai
from shared.jobs.pieces import Pieces
from shared.schemas import Envelope

PIECE_LIMIT = 900_000  # bytes of JSON; the platform refuses pieces over 1 MB
DETAILS = ("usage", "finish_reason", "metrics", "receipt")


def split(text: str) -> Iterator[str]:
    """The text in parts that the platform carries, each whole characters."""
    if len(json.dumps({"output": text}, ensure_ascii=False).encode()) <= PIECE_LIMIT:
        yield text
        return
    middle = len(text) // 2
    yield from split(text[:middle])
    yield from split(text[middle:])


class StreamingHandler:
    """The SDK's handler over a worker, as a generator."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    async def handle(self, sdk_job: dict[str, Any]) -> AsyncGenerator[Any, None]:
        """Run one job, and yield its text as it comes: what has gathered while the SDK posted the last piece.

        The SDK takes `{"error": ...}` for the end of the job. Where it is stopped while it posts, it tells the
        generator nothing: `Worker.stop` does.
        """
        pieces = Pieces()
        running, began = None, False
        try:
            running = self._worker.start(sdk_job, pieces.push)
            running.future.add_done_callback(lambda _: pieces.end())
            while text := await pieces.next():
                running.sender.stop()  # the pieces tell where the job is, and the end must not wait for a progress
                began = True
                for part in split(text):
                    yield part
            for last in _closing(sdk_job, await self._worker.outcome(running, sdk_job), began=began):
                yield last
        except Exception:  # noqa: BLE001 logged there, hidden from the caller
            yield hidden(sdk_job)
        finally:
            if running:
                await running.stop()

    async def collect(self, sdk_job: dict[str, Any]) -> list[Any] | dict[str, Any]:
        """What the pieces come to, or the error: the SDK's `--test_input` cannot run a generator."""
        pieces = [piece async for piece in self.handle(sdk_job)]
        failed = pieces and isinstance(pieces[-1], dict) and "error" in pieces[-1]
        return dict(pieces[-1]) if failed else pieces


def _closing(sdk_job: dict[str, Any], outcome: dict[str, Any], *, began: bool) -> Iterator[Any]:
    """What follows the text: the whole of it where none came in pieces, the details, or the error."""
    if "error" in outcome:
        if began and wants_events(sdk_job):
            yield openai.event({"error": json.loads(outcome["error"])})
        yield outcome
    elif "answer" in outcome:
        yield outcome["answer"]
    else:
        if not began:
            yield from split(outcome["text"])
        if not is_openai(sdk_job) and Envelope.split(sdk_job["input"])[0].details:
            yield {name: outcome[name] for name in DETAILS}
