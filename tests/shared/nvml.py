"""A driver of NVIDIA cards that tests give the cards to; a machine without one runs the same code."""

import threading
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pynvml

GIB = 2**30
WAIT_S = 20


@dataclass
class Silicon:
    """A card in the machine; what is None its driver does not support."""

    uuid: str
    total: int | None = 24 * GIB
    free: int = 20 * GIB
    rates: tuple[int, int] | None = (50, 30)
    capability: tuple[int, int] | None = (8, 9)
    processes: dict[int, int | None] | None = None
    is_lost: bool = False


@dataclass
class Driver:
    """NVIDIA's management library with the functions of pynvml, over cards that a test gives it."""

    cards: list[Silicon]
    slices: list[Silicon] = field(default_factory=list)
    broken: type[pynvml.NVMLError] | None = None
    inits: int = 0
    gate: threading.Event | None = None  # without it nothing is answered
    asked: threading.Event = field(default_factory=threading.Event)

    def nvmlInit(self) -> None:  # noqa: N802 the library's names
        self.inits += 1
        self._answer()

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        self._answer()
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Silicon:  # noqa: N802
        return self._whole(self.cards[index])

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> Silicon:  # noqa: N802
        for card in (*self.cards, *self.slices):
            if card.uuid == uuid:
                return self._whole(card)
        raise pynvml.NVMLError_NotFound

    def nvmlDeviceGetUUID(self, handle: Silicon) -> str:  # noqa: N802
        return handle.uuid

    def nvmlDeviceGetName(self, handle: Silicon) -> str:  # noqa: N802
        return "NVIDIA Test"

    def nvmlDeviceGetMemoryInfo(self, handle: Silicon, version: Any = None) -> Any:  # noqa: N802
        if handle.total is None:
            raise pynvml.NVMLError_NotSupported
        return pynvml.c_nvmlMemory_t(total=handle.total, free=handle.free, used=handle.total - handle.free)

    def nvmlDeviceGetCudaComputeCapability(self, handle: Silicon) -> tuple[int, int]:  # noqa: N802
        if handle.capability is None:
            raise pynvml.NVMLError_NotSupported
        return handle.capability

    def nvmlDeviceGetUtilizationRates(self, handle: Silicon) -> Any:  # noqa: N802
        if handle.rates is None:
            raise pynvml.NVMLError_NotSupported
        return pynvml.c_nvmlUtilization_t(gpu=handle.rates[0], memory=handle.rates[1])

    def nvmlDeviceGetComputeRunningProcesses(self, handle: Silicon) -> list[Any]:  # noqa: N802
        if handle.processes is None:
            raise pynvml.NVMLError_NotSupported
        return [SimpleNamespace(pid=pid, usedGpuMemory=held) for pid, held in handle.processes.items()]

    def _answer(self) -> None:
        self.asked.set()
        if self.gate:
            self.gate.wait(WAIT_S)
        if self.broken:
            raise self.broken

    def _whole(self, card: Silicon) -> Silicon:
        self._answer()
        if card.is_lost:
            raise pynvml.NVMLError_GpuIsLost
        return card
