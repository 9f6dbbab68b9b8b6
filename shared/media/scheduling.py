"""Keeps the threads of encoders from being real-time threads."""

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TASKS = Path("/proc/self/task")  # Linux: a folder for each thread of this process


@contextmanager
def ordinary_scheduling() -> Iterator[None]:
    """What opens an encoder in the block, and the threads that it starts, are scheduled as any others afterwards.

    SVT-AV1 makes them real-time threads of the highest priority where it may, as root may in a container: they, and
    every process that the opening thread starts from then on, would have the cores for themselves, and one that does
    not wait for anything would stop whatever else is to run on its core.
    """
    before = _real_time_threads()
    try:
        yield
    finally:
        for thread in _real_time_threads() - before:
            with contextlib.suppress(ProcessLookupError):  # it has ended
                os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))


def _real_time_threads() -> set[int]:
    return {thread for thread in _threads() if _is_real_time(thread)}


def _threads() -> list[int]:
    return [int(task.name) for task in TASKS.iterdir()] if TASKS.is_dir() else []


def _is_real_time(thread: int) -> bool:
    try:
        return os.sched_getscheduler(thread) in (os.SCHED_FIFO, os.SCHED_RR)
    except ProcessLookupError:
        return False
