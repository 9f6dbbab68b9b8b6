"""Models that are read before there is a device, for a snapshot of the process to hold, and placed in its copies."""

import gc
import os
import random
import ssl
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from shared import logs
from shared.device import Device, Kind, expecting, free_memory
from shared.errors import JobError
from shared.models.catalog import Entry
from shared.models.pool import Load, Pool
from shared.schemas import Handler, ModelSource

Find = Callable[[Entry], ModelSource | None]


@dataclass(frozen=True)
class _Read:
    load: Load
    source: ModelSource
    to_device: Callable[[Device], Any] = field(repr=False)


class Ahead:
    """Holds the models that were read until they are placed, once."""

    def __init__(self) -> None:
        self._kind: Kind | None = None
        self._read: list[_Read] = []

    def read(self, wanted: Iterable[tuple[Entry, Handler]], find: Find, kind: Kind) -> None:
        """Read models on the CPU for a device of a kind, and import what runs them; looks for no such device.

        What cannot be read is left to be loaded later: a snapshot that lacks a model is better than none.
        """
        self._kind = kind
        for entry, handler in wanted:
            with expecting(kind) if handler.torch and handler.load else nullcontext():
                try:
                    self._read_one(entry, handler, find)
                except Exception as exc:  # noqa: BLE001 the job that wants it will say so
                    _leave(entry.model_id, exc.message if isinstance(exc, JobError) else repr(exc))
        gc.collect()
        gc.freeze()  # no copy has to look through all this again

    def _read_one(self, entry: Entry, handler: Handler, find: Find) -> None:
        if handler.load is None or handler.to_device is None:
            return
        source = find(entry)
        if source is None:
            _leave(entry.model_id, "it is not on the volume")
            return
        if any((read.load, read.source) == (handler.load, source) for read in self._read):
            return
        begun = time.monotonic()
        model = handler.load(source, Device("cpu", bound_for=self._kind))
        self._read.append(_Read(handler.load, source, partial(handler.to_device, model)))
        logs.stage("read", "ahead", model=entry.model_id, seconds=round(time.monotonic() - begun, 3))

    def place(self, pool: Pool, find_device: Callable[[], Device]) -> list[dict[str, Any]]:
        """Move what was read to the device and into the pool; returns what each model tells of the time that it took.

        On another device than it was read for, whose precision may differ, it is let go and will be loaded anew.
        """
        loading: list[dict[str, Any]] = []
        if self._read and (device := find_device()).kind != self._kind:
            self._let_go(device)
        while self._read:
            read = self._read.pop(0)
            model = pool.place(read.load, read.source, read.to_device)
            logs.stage("placed", "ahead", model=read.source.model_id)
            loading.append(getattr(model, "loading", {}))
        return loading

    def _let_go(self, device: Device) -> None:
        for read in self._read:
            _leave(read.source.model_id, f"it was read for {self._kind}, and the device is {device.kind}")
        self._read.clear()
        gc.unfreeze()
        free_memory()


def _leave(model_id: str, reason: str) -> None:
    logs.stage("left for later", "ahead", model=model_id, reason=reason)


def reseed() -> None:
    """Begin every generator of random numbers of this process anew: all copies of a snapshot have the same ones.

    What draws from the system, as `secrets` and `uuid4` do, needs nothing.
    """
    random.seed()
    ssl.RAND_add(os.urandom(32), 32)  # OpenSSL's own, of which its connections' keys come
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed()
    if torch := sys.modules.get("torch"):
        torch.seed()  # of every kind of device
