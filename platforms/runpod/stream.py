"""The handler of a worker whose pipelines all stream: text leaves in pieces while the job runs."""

from collections.abc import AsyncGenerator
from typing import Any

from platforms.runpod.jobs import Worker, hidden
from shared.jobs.outputs import closing, split
from shared.jobs.pieces import Pieces


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
            for last in closing(sdk_job.get("input"), await self._worker.outcome(running, sdk_job), began=began):
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
