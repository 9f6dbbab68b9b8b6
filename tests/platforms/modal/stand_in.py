"""A board and calls in this process: the web application and real workers without Modal between them."""

import asyncio
import copy
import json
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import handlers
from platforms.modal.jobs import Ended
from platforms.modal.webhooks import Webhooks
from platforms.modal.worker import ModalWorker
from shared.errors import NotFound
from shared.plan import Plan
from shared.runner import Runner
from shared.settings import Settings


class Entries:
    """What a `modal.Dict` holds; each reader has a copy. Implements journal.Board."""

    def __init__(self) -> None:
        self.all: dict[str, Any] = {}
        self._lock = threading.Lock()

    def get(self, name: str) -> Any:
        with self._lock:
            return copy.deepcopy(self.all.get(name))

    def update(self, entries: Mapping[str, Any]) -> None:
        with self._lock:
            self.all.update(copy.deepcopy(dict(entries)))


class MemoryBoard:
    """Implements backend.Board."""

    def __init__(self, entries: Entries) -> None:
        self._entries = entries

    async def get(self, name: str) -> Any:
        return self._entries.get(name)

    async def put(self, name: str, entry: Any, *, is_new: bool = False) -> bool:
        if is_new and name in self._entries.all:
            return False
        self._entries.update({name: entry})
        return True

    async def drop(self, name: str) -> None:
        self._entries.all.pop(name, None)


class FullShelf:
    """Implements Shelf: all models are there."""

    async def check(self, plan: Plan) -> None:
        return


class WorkerCalls:
    """Implements Calls: a worker for each pair of pipeline and model, in this process; each runs a job at a time.

    `told` is what their webhooks were.
    """

    def __init__(self, entries: Entries, settings: Settings) -> None:
        self._entries = entries
        self._settings = settings
        self._workers: dict[tuple[str, str | None], ModalWorker] = {}
        self._turns: dict[tuple[str, str | None], asyncio.Lock] = {}
        self.tasks: dict[str, asyncio.Task[dict[str, Any]]] = {}
        self.jobs: list[dict[str, Any]] = []
        self.told: list[dict[str, Any]] = []
        self.following: set[asyncio.Task[bool]] = set()
        self.looks_again = 0
        self.retired = 0

    async def spawn(self, plan: Plan, job: Mapping[str, Any]) -> str:
        call = f"fc-{len(self.jobs)}"
        self.jobs.append(dict(job))
        key = (plan.pipeline, plan.model_id)
        if key not in self._workers:
            self._workers[key] = await asyncio.to_thread(self._made, *key)
            self._turns[key] = asyncio.Lock()
        self.tasks[call] = asyncio.create_task(self._run(key, dict(job), call))
        return call

    async def follow(self, endpoint: str, job_id: str, created_ms: int, job_input: Any) -> None:
        webhooks = Webhooks(MemoryBoard(self._entries), self.ended, self._post, time.time)
        self.following.add(asyncio.create_task(webhooks.follow(endpoint, job_id, created_ms, job_input)))

    def _post(self, url: str, body: bytes) -> int:
        self.told.append(json.loads(body))
        return 200

    def _made(self, pipeline: str, model_id: str | None) -> ModalWorker:
        own = self._settings.model_copy(update={"pipeline": pipeline, "model_id": model_id})
        runner = Runner(own, handlers.Folders(own.handlers))
        worker = ModalWorker(runner, self._entries, look_again=self._look_again, take_no_more=self._retire)
        worker.before_snapshot(on_card=False)
        worker.after_snapshot()
        return worker

    async def _run(self, key: tuple[str, str | None], job: dict[str, Any], call: str) -> dict[str, Any]:
        async with self._turns[key]:
            return await self._workers[key].run(job, call)

    def _look_again(self) -> None:
        self.looks_again += 1

    def _retire(self) -> None:
        self.retired += 1

    async def ended(self, call: str, timeout_s: float) -> Ended | None:
        if call not in self.tasks:
            raise NotFound("Modal has no result of this job any more")
        await asyncio.wait({self.tasks[call]}, timeout=timeout_s)
        task = self.tasks[call]
        if not task.done():
            return None
        if task.cancelled():
            return {"status": "FAILED", "error": "internal: Modal ended the job's container"}
        return task.result()

    async def cancel(self, call: str) -> None:
        self.tasks[call].cancel()

    async def counts(self) -> tuple[int, int, int]:
        running = sum(turn.locked() for turn in self._turns.values())
        return sum(not task.done() for task in self.tasks.values()) - running, running, len(self._workers)


def no_models(folder: Path) -> Path:
    """A list of models that is empty."""
    path = folder / "models.json"
    path.write_text("[]")
    return path
