"""The NVIDIA cards that this process may use, as their driver describes them."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pynvml
from pydantic import BaseModel, ConfigDict, Field

from shared import logs

T = TypeVar("T")


@dataclass(frozen=True)
class Card:
    """One card, or one slice of it; memory in bytes, utilisation in percent. None is what it does not tell.

    `processes` is what each process holds, by its id; inside a container the driver may not tell.
    """

    id: str
    name: str
    memory_total: int | None
    memory_free: int | None
    compute_capability: tuple[int, int] | None
    utilization_compute: int | None
    utilization_memory: int | None
    processes: Mapping[int, int] = field(default_factory=dict)


class Cards:
    """Asks the driver, which is initialised once, when it is first asked; one thread at a time.

    A driver may hang with its card: who has waited `patience_s` for another to be answered gets what was known last.

    `visible` is CUDA_VISIBLE_DEVICES: None shows all cards. Its numbers are taken in the order of the bus, as
    `nvidia-smi` does and CUDA with CUDA_DEVICE_ORDER=PCI_BUS_ID. `nvml` has the functions of pynvml.
    """

    def __init__(self, visible: str | None = None, nvml: Any = pynvml, patience_s: float = 2.0) -> None:
        self._visible = visible
        self._nvml = nvml
        self._patience_s = patience_s
        self._asking = threading.Lock()
        self._is_ready: bool | None = None
        self._known: dict[int, Card] = {}

    def read(self) -> dict[int, Card]:
        """The cards by the numbers that CUDA gives them; those that the driver can tell of, and none without one."""
        if self._asking.acquire(timeout=self._patience_s):
            try:
                self._known = self._asked()
            finally:
                self._asking.release()
        return self._known

    def _asked(self) -> dict[int, Card]:
        cards: dict[int, Card] = {}
        for number, name in enumerate(self._names()):
            try:
                cards[number] = self._card(self._handle(name))
            except pynvml.NVMLError as exc:  # such as of one that fell off the bus; the others are still there
                logs.logger.warning("a card does not answer", extra={"fields": {"gpu": number, "error": str(exc)}})
        return cards

    def _ready(self) -> bool:
        if self._is_ready is None:
            try:
                self._nvml.nvmlInit()
                self._is_ready = True
            except pynvml.NVMLError as exc:
                logs.logger.info("no NVIDIA driver", extra={"fields": {"reason": str(exc)}})
                self._is_ready = False
        return self._is_ready

    def _names(self) -> list[int | str]:
        """Numbers and UUIDs of what is visible, up to the first that names nothing, as CUDA reads its variable."""
        count = _told(self._nvml.nvmlDeviceGetCount, 0) if self._ready() else 0
        if self._visible is None:
            return list(range(count))
        names: list[int | str] = []
        for name in self._visible.replace(" ", "").split(","):
            if name.startswith(("GPU-", "MIG-")):
                names.append(name)
            elif name.isascii() and name.isdigit() and int(name) < count:
                names.append(int(name))
            else:
                break
        return names if count else []

    def _handle(self, name: int | str) -> Any:
        if isinstance(name, int):
            return self._nvml.nvmlDeviceGetHandleByIndex(name)
        if name.startswith("GPU-"):  # its UUID, or the beginning of it
            for number in range(self._nvml.nvmlDeviceGetCount()):
                handle = self._nvml.nvmlDeviceGetHandleByIndex(number)
                if self._nvml.nvmlDeviceGetUUID(handle).startswith(name):
                    return handle
        return self._nvml.nvmlDeviceGetHandleByUUID(name)

    def _card(self, handle: Any) -> Card:
        nvml = self._nvml
        memory = _told(lambda: nvml.nvmlDeviceGetMemoryInfo(handle), None)
        rates = _told(lambda: nvml.nvmlDeviceGetUtilizationRates(handle), None)
        return Card(
            id=nvml.nvmlDeviceGetUUID(handle),
            name=nvml.nvmlDeviceGetName(handle),
            memory_total=memory and memory.total,
            memory_free=memory and memory.free,
            compute_capability=_told(lambda: nvml.nvmlDeviceGetCudaComputeCapability(handle), None),
            utilization_compute=rates and rates.gpu,
            utilization_memory=rates and rates.memory,
            processes=_told(lambda: self._processes(handle), {}),
        )

    def _processes(self, handle: Any) -> dict[int, int]:
        return {p.pid: p.usedGpuMemory or 0 for p in self._nvml.nvmlDeviceGetComputeRunningProcesses(handle)}


def _told(ask: Callable[[], T], unknown: T) -> T:
    """What the driver answers; slices of cards and shared memories do not answer everything."""
    try:
        return ask()
    except pynvml.NVMLError:
        return unknown


class _Gpu(BaseModel):
    model_config = ConfigDict(frozen=True)

    id: str = Field(description="Its UUID.")
    name: str = Field(description="As its maker calls it.")
    memory_total: int = Field(description="Bytes; 0 where the card does not tell.")
    memory_free: int = Field(description="Bytes; 0 where the card does not tell.")


class GPUComputeInfo(_Gpu):
    """What a card can do; the names are those of Livepeer's runner."""

    major: int = Field(description="Compute capability, before the point; 0 where the card does not tell.")
    minor: int = Field(description="Compute capability, after the point.")

    @classmethod
    def of(cls, card: Card) -> "GPUComputeInfo":
        """What that card can do."""
        major, minor = card.compute_capability or (0, 0)
        return cls(**_shared_fields(card), major=major, minor=minor)


class GPUUtilizationInfo(_Gpu):
    """What a card is doing; the names are those of Livepeer's runner."""

    utilization_compute: int = Field(description="Percent of the time; 0 where the card does not tell.")
    utilization_memory: int = Field(description="Percent of the time; 0 where the card does not tell.")

    @classmethod
    def of(cls, card: Card) -> "GPUUtilizationInfo":
        """What that card is doing."""
        return cls(
            **_shared_fields(card),
            utilization_compute=card.utilization_compute or 0,
            utilization_memory=card.utilization_memory or 0,
        )


def _shared_fields(card: Card) -> dict[str, Any]:
    memory = {"memory_total": card.memory_total or 0, "memory_free": card.memory_free or 0}
    return {"id": card.id, "name": card.name, **memory}


class HardwareInformation(BaseModel):
    """The cards of a worker, by number."""

    model_config = ConfigDict(frozen=True, protected_namespaces=())

    pipeline: str = Field(description="What the worker runs: its first pipeline.")
    model_id: str = Field(description="The model that it runs where a job names none.")
    gpu_info: dict[int, GPUComputeInfo]


class HardwareStats(BaseModel):
    """How busy the cards of a worker are, by number."""

    model_config = ConfigDict(frozen=True, protected_namespaces=())

    pipeline: str = Field(description="What the worker runs: its first pipeline.")
    model_id: str = Field(description="The model that it runs where a job names none.")
    gpu_stats: dict[int, GPUUtilizationInfo]
