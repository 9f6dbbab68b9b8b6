"""The cards of this machine, as NVIDIA's driver tells of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import pynvml

from shared.errors import InvalidInput


@dataclass(frozen=True)
class Gpu:
    """A card now; memory in bytes, `processes` by process id where the driver tells (in a container it may not)."""

    number: int
    name: str
    total: int
    used: int
    processes: Mapping[int, int] = field(default_factory=dict)


class Inventory(Protocol):
    """What knows the cards."""

    def read(self) -> Sequence[Gpu]:
        """Every card, in the order of its number."""


class Driver:
    """The cards by NVML, numbered as `nvidia-smi` numbers them: docs.nvidia.com/deploy/nvml-api.

    `nvml` has the functions of pynvml.

    Raises, when it is made:
        InvalidInput: this machine has no driver of NVIDIA's.
    """

    def __init__(self, nvml: Any = pynvml) -> None:
        self._nvml = nvml
        try:
            nvml.nvmlInit()
        except pynvml.NVMLError as exc:
            raise InvalidInput(
                "--gpus: this machine has no NVIDIA card that its driver tells of; leave --gpus out to run on the CPU"
            ) from exc

    def read(self) -> list[Gpu]:
        """See Inventory."""
        return [self._gpu(number) for number in range(self._nvml.nvmlDeviceGetCount())]

    def _gpu(self, number: int) -> Gpu:
        card = self._nvml.nvmlDeviceGetHandleByIndex(number)
        memory = self._nvml.nvmlDeviceGetMemoryInfo(card)
        return Gpu(
            number,
            self._nvml.nvmlDeviceGetName(card),
            int(memory.total),
            int(memory.used),
            self._processes(card),
        )

    def _processes(self, card: Any) -> dict[int, int]:
        try:
            return {p.pid: p.usedGpuMemory or 0 for p in self._nvml.nvmlDeviceGetComputeRunningProcesses(card)}
        except pynvml.NVMLError:  # such as under WSL
            return {}


@dataclass(frozen=True)
class Chosen:
    """The cards to use, by number, and what knows them."""

    inventory: Inventory
    numbers: tuple[int, ...]


def choose(asked: str, inventory: Inventory) -> Chosen:
    """The cards that `--gpus` names: `all`, or such as `0,1`.

    Raises:
        InvalidInput: one of them is not there, or is named twice.
    """
    there = [gpu.number for gpu in inventory.read()]
    has = ", ".join(map(str, there)) or "none"
    if asked.strip() == "all" and there:
        return Chosen(inventory, tuple(there))
    named = [part.strip() for part in asked.split(",")]
    wrong = [part for part in named if part not in map(str, there)]
    if wrong:
        raise InvalidInput(f"--gpus: there is no card '{wrong[0][:64]}'; this machine has: {has}")
    if len(set(named)) < len(named):
        raise InvalidInput("--gpus: a card is named twice")
    return Chosen(inventory, tuple(int(part) for part in named))
