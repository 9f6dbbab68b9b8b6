"""The device's queue: work runs on its thread, in order, and one job's failure is not the next one's."""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from shared.errors import Cancelled, DeviceLost, OutOfMemory, Ruin
from shared.job import Job

T = TypeVar("T")


class Free(Protocol):
    """Gives memory back: what can be had without harm, or everything that no job uses."""

    def __call__(self, *, everything: bool) -> None:
        """Called on the lane's thread, between two attempts at a job or after the last."""


@dataclass(eq=False)
class _Task:
    job: Job
    work: Callable[[], Any]
    future: "Future[Any]" = field(default_factory=Future)
    drop: Callable[[], None] = lambda: None


class Lane:
    """Runs work on the device: `slots` at a time, first come first served.

    `classify` tells whether an error is the device's, `free` gives back what memory can be given back. After an
    error that ruined the device nothing more is started: what waits stays unanswered, for the process is to end and
    the platform to hand its jobs out again.
    """

    def __init__(self, classify: Callable[[BaseException], Ruin | None], free: Free, *, slots: int = 1) -> None:
        self._classify = classify
        self._free = free
        self._waiting: deque[_Task] = deque()
        self._running: set[_Task] = set()
        self._changed = threading.Condition()
        self._closed = False
        self.broken = False
        self._threads: list[threading.Thread] = []
        self._slots = slots

    @property
    def slots(self) -> int:
        """How many jobs run at once."""
        return self._slots

    def widen(self, slots: int) -> None:
        """Run that many jobs at once from now on; never fewer than before."""
        with self._changed:
            self._slots = max(self._slots, slots)
            is_started = bool(self._threads)
        if is_started:
            self._start()

    def _start(self) -> None:
        """The threads, once there is work: a copy of a process that had none yet would lack them."""
        with self._changed:
            names = [f"lane-{n}" for n in range(len(self._threads), self._slots)]
            new = [threading.Thread(target=self._serve, name=name, daemon=True) for name in names]
            self._threads += new
        for thread in new:
            thread.start()

    def run(self, job: Job, work: Callable[[], T], *, here: bool = False) -> T:
        """Run the work when its turn comes, and wait for it; raises what the work raises.

        With `here` it runs on the caller's thread where its turn has come already, which saves two changes of thread.
        That is not for torch: its threads and its graphs belong to the thread that it was first called on.
        """
        task = _Task(job, work)
        if not (here and self._begin(task)):
            return self.submit(job, work).result()
        result: T = self._ended(task)
        return result

    def submit(self, job: Job, work: Callable[[], T]) -> "Future[T]":
        """Queue the work; a job cancelled while it waits leaves the queue at once."""
        task = _Task(job, work)
        task.drop = lambda: self._drop(task)
        future = task.future
        with self._changed:
            self._waiting.append(task)
            self._changed.notify()
        if len(self._threads) < self._slots:
            self._start()
        job.cancel.on_cancel(task.drop)
        return future

    def holds(self, job: Job) -> bool:
        """Whether the job waits for the device or is on it."""
        with self._changed:
            return any(task.job is job for task in (*self._waiting, *self._running))

    def is_stuck(self, job: Job, hang_s: float) -> bool:
        """Whether the job keeps the device, `hang_s` after it was told to stop or its time was over."""
        if job.on_device_since is None or job.deadline is None or not self.holds(job):
            return False
        cancelled_at = job.cancel.cancelled_at
        asked_at = job.deadline if cancelled_at is None else max(cancelled_at, job.on_device_since)
        return job.clock() - asked_at > hang_s

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
            del task  # its work and its result may hold device memory

    def _begin(self, task: _Task) -> bool:
        """Whether the device is free for a task that nothing waits before; then it is the task's."""
        with self._changed:
            if self._waiting or self.broken or not self._has_room():
                return False
            self._running.add(task)
            return True

    def _has_room(self) -> bool:
        return len(self._running) < self.slots

    def _is_next(self) -> bool:
        return bool(self._waiting) and not self.broken and self._has_room()

    def _is_over(self) -> bool:
        return self._closed and (self.broken or not self._waiting)

    def _next(self) -> _Task | None:
        with self._changed:
            self._changed.wait_for(lambda: self._is_over() or self._is_next())
            if self._is_over():
                return None
            task = self._waiting.popleft()
            self._running.add(task)
            return task

    def _run(self, task: _Task) -> None:
        """One task to its end, on a thread of the lane."""
        result, error = None, None
        try:
            result = self._ended(task)
        except BaseException as exc:  # noqa: BLE001 whatever ended the work is the caller's to see
            error = exc
        if error is None:
            task.future.set_result(result)
        else:
            task.future.set_exception(error)
        del error

    def _ended(self, task: _Task) -> Any:
        """What one task comes to; its place is free again before anybody hears of the end."""
        try:
            return self._attempt(task, last=False)
        finally:
            with self._changed:
                self._running.discard(task)
                if self._waiting:  # for a place that `run` has taken
                    self._changed.notify()
            task.job.cancel.forget(task.drop)  # else the job would hold its work, and with it all that it made
            task.work = lambda: None

    def _attempt(self, task: _Task, *, last: bool) -> Any:
        try:
            task.job.check()
            return task.work()
        except BaseException as exc:
            ruin = self._classify(exc)
            if ruin is None:
                raise
            if ruin == "out_of_memory":
                ruin = self._release(exc, everything=last)
            if ruin == "device_lost":
                self.broken = True
                raise DeviceLost("the device failed and this worker restarts; submit the job again") from exc
            if last:
                raise OutOfMemory(
                    "the job does not fit into the device's memory; ask for fewer or smaller images"
                ) from None
        return self._attempt(task, last=True)  # outside the except block, whose traceback holds the tensors

    def _release(self, exc: BaseException, *, everything: bool) -> Ruin:
        """Give memory back; a device on which even that fails is lost."""
        exc.__traceback__ = None  # its frames hold the tensors that did not fit beside the new one
        try:
            self._free(everything=everything)
        except Exception as failure:  # noqa: BLE001 whatever the driver raises
            return self._classify(failure) or "device_lost"
        return "out_of_memory"
