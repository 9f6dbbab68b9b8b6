"""The device's queue: work runs on its thread, in order, and one job's failure is not the next one's."""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

from shared.errors import Cancelled, DeviceLost, OutOfMemory, Ruin
from shared.job import Job

T = TypeVar("T")


@dataclass
class _Task:
    job: Job
    work: Callable[[], Any]
    future: "Future[Any]" = field(default_factory=Future)


class Lane:
    """Runs work on the device: `slots` at a time, first come first served.

    `classify` tells whether an error is the device's, `free` gives back what memory can be given back. After an
    error that ruined the device nothing more is started: what waits stays unanswered, for the process is to end and
    the platform to hand its jobs out again.
    """

    def __init__(
        self, classify: Callable[[BaseException], Ruin | None], free: Callable[[], None], *, slots: int = 1
    ) -> None:
        self._classify = classify
        self._free = free
        self._waiting: deque[_Task] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self.broken = False
        self._threads = [threading.Thread(target=self._serve, name=f"lane-{n}", daemon=True) for n in range(slots)]
        for thread in self._threads:
            thread.start()

    def submit(self, job: Job, work: Callable[[], T]) -> "Future[T]":
        """Queue the work; a job cancelled while it waits leaves the queue at once."""
        task = _Task(job, work)
        with self._changed:
            self._waiting.append(task)
            self._changed.notify()
        job.cancel.on_cancel(lambda: self._drop(task))
        return task.future

    def waiting(self) -> int:
        """How many jobs wait for the device."""
        return len(self._waiting)

    def close(self) -> None:
        """Let the threads end once the queue is empty."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _drop(self, task: _Task) -> None:
        with self._changed:
            if task not in self._waiting:
                return  # it runs, and stops itself at its next step
            self._waiting.remove(task)
        task.future.set_exception(Cancelled(task.job.cancel.reason))

    def _serve(self) -> None:
        while task := self._next():
            self._run(task)

    def _next(self) -> _Task | None:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or (self._waiting and not self.broken))
            return self._waiting.popleft() if self._waiting and not self.broken else None

    def _run(self, task: _Task) -> None:
        try:
            task.future.set_result(self._attempt(task, last=False))
        except BaseException as exc:  # noqa: BLE001 whatever ended the work is the caller's to see
            task.future.set_exception(exc)
        del task  # its result may hold device memory

    def _attempt(self, task: _Task, *, last: bool) -> Any:
        try:
            task.job.check()
            return task.work()
        except BaseException as exc:
            ruin = self._classify(exc)
            if ruin == "device_lost":
                self.broken = True
                raise DeviceLost("the device failed and this worker restarts; submit the job again") from exc
            if ruin is None:
                raise
            if last:
                self._release(exc)
                raise OutOfMemory(
                    "the job does not fit into the device's memory; ask for fewer or smaller images"
                ) from None
            self._release(exc)
        return self._attempt(task, last=True)  # outside the except block, whose traceback holds the tensors

    def _release(self, exc: BaseException) -> None:
        exc.__traceback__ = None  # its frames hold the tensors that did not fit beside the new one
        self._free()
