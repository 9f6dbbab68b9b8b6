"""The models that are warm on the device; least recently used out first."""

import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from shared.device import Device, free_memory
from shared.models.loading import Loading
from shared.schemas import ModelSource

Load = Callable[[ModelSource, Device], Any]
Key = tuple[Load, str, str]
LOOK_AGAIN_S = 0.1


@dataclass
class _Warm:
    model: Any
    source: ModelSource
    footprint: int
    leases: "Counter[int]" = field(default_factory=Counter)  # by thread

    @property
    def is_idle(self) -> bool:
        return not self.leases.total()

    @property
    def is_ours(self) -> bool:
        """Whether the job of this thread holds it: to wait for that would be to wait for oneself."""
        return bool(self.leases[threading.get_ident()])


class Pool:
    """Holds up to `capacity` models, and fewer where memory has no room for them; one in use is never evicted."""

    def __init__(
        self,
        device: Callable[[], Device],
        *,
        capacity: int = 1,
        has_room: Callable[[Device, ModelSource], bool] = lambda device, source: True,
        on_change: Callable[[list[ModelSource]], None] = lambda sources: None,
    ) -> None:
        """Args: `has_room` says whether the device's memory has room for one more model as it is.

        `on_change` is told which models are warm whenever that changes.
        """
        self._device = device
        self._on_change = on_change
        self._capacity = capacity
        self._has_memory = has_room
        self._warm: OrderedDict[Key, _Warm] = OrderedDict()
        self._told: dict[Key, int] = {}
        self._lock = threading.Condition(threading.RLock())
        self._queue: deque[object] = deque()
        self.loading = Loading()

    @contextmanager
    def acquire(self, load: Load, source: ModelSource, *, check: Callable[[], None] = lambda: None) -> Iterator[Any]:
        """The model, warm, for the length of the block; loads it when it is not.

        Where others use the models that would have to go, it waits for them; `check` may raise meanwhile.
        """
        key = (load, source.model_id, source.revision)
        with self._lock:
            self._wait_for_turn(key, source, check)
            if key not in self._warm:
                self._take_in(key, source, partial(load, source))
            self._warm.move_to_end(key)
            warm = self._warm[key]
            warm.leases[threading.get_ident()] += 1
        try:
            yield warm.model
        finally:
            with self._lock:
                warm.leases[threading.get_ident()] -= 1
                self._lock.notify_all()

    def place(self, load: Load, source: ModelSource, to_device: Callable[[Device], Any]) -> Any:
        """Take in, and return, a model that `load` read before there was a device; `to_device` moves it there.

        From then on it is as warm as one that `acquire` has loaded.
        """
        with self._lock:
            return self._take_in((load, source.model_id, source.revision), source, to_device)

    def _take_in(self, key: Key, source: ModelSource, ready: Callable[[Device], Any]) -> Any:
        self._make_room(source)
        warm = self._warm[key] = self._measured(ready, source)
        self._tell()
        return warm.model

    def _wait_for_turn(self, key: Key, source: ModelSource, check: Callable[[], None]) -> None:
        """Wait until the model is warm or there is room for it: first come first served, or some would wait for ever.

        A job that holds a model already does not queue: whoever waits there may be waiting for it.
        """
        turn = object()
        if not any(w.is_ours for w in self._warm.values()):
            self._queue.append(turn)
        try:
            while (turn in self._queue and self._queue[0] is not turn) or not (
                key in self._warm or self._may_load(source)
            ):
                check()
                self._lock.wait(LOOK_AGAIN_S)
        finally:
            if turn in self._queue:
                self._queue.remove(turn)
            self._lock.notify_all()

    def holds(self, load: Load, source: ModelSource) -> bool:
        """Whether the model is warm."""
        return (load, source.model_id, source.revision) in self._warm

    def warm(self) -> dict[Key, int]:
        """Bytes of each warm model. Unlike `footprint` it waits for nothing, also while a model is being loaded."""
        return self._told

    def footprint(self) -> dict[str, int]:
        """Bytes by model id, as measured while each was loaded."""
        with self._lock:
            return {key[1]: warm.footprint for key, warm in self._warm.items()}

    def free(self, *, everything: bool) -> None:
        """Give memory back: every model that no job uses, but for the last used unless `everything` is to go.

        The last used is the one whose job ran out of memory: to load it again would cost more than it gives.
        """
        with self._lock:
            idle = [key for key, warm in self._warm.items() if warm.is_idle]
            for key in idle if everything else [key for key in idle if key != next(reversed(self._warm))]:
                del self._warm[key]
            self._tell()
        free_memory()

    def _may_load(self, source: ModelSource) -> bool:
        """Whether one more fits beside those that others use, once the idle ones are gone."""
        busy = sum(not w.is_idle and not w.is_ours for w in self._warm.values())
        return not busy or (busy < self._capacity and self._has_memory(self._device(), source))

    def _make_room(self, source: ModelSource) -> None:
        idle = [k for k, w in self._warm.items() if w.is_idle]
        while idle and (len(self._warm) >= self._capacity or not self._has_memory(self._device(), source)):
            del self._warm[idle.pop(0)]
            free_memory()
        self._tell()

    def _measured(self, ready: Callable[[Device], Any], source: ModelSource) -> _Warm:
        with self.loading.of(source.model_id):
            device = self._device()
            before = device.memory_used()
            model = ready(device)
            return _Warm(model, source, max(0, device.memory_used() - before))

    def _tell(self) -> None:
        self._told = {key: warm.footprint for key, warm in self._warm.items()}
        self._on_change([warm.source for warm in self._warm.values()])
