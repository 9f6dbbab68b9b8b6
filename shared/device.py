"""The device that models run on: its choice, its memory, and its ways of failing."""

import ctypes
import gc
import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from shared.errors import Ruin

Kind = Literal["cpu", "cuda", "mps"]
CGROUP = Path("/sys/fs/cgroup")  # Linux, version 2
CPU_QUOTA = CGROUP / "cpu.max"  # microseconds of CPU time in a period
MEMINFO = Path("/proc/meminfo")
STATM = Path("/proc/self/statm")  # Linux: sizes of this process in pages, the resident one second

# Parts of the messages by which torch and CUDA tell of it, the first match counts: torch/csrc, driver API errors.
RUIN_BY_MESSAGE: tuple[tuple[str, Ruin], ...] = (
    ("out of memory", "out_of_memory"),
    ("can't allocate memory", "out_of_memory"),
    ("CUBLAS_STATUS_ALLOC_FAILED", "out_of_memory"),
    ("CUDA error", "device_lost"),
    ("CUDA driver error", "device_lost"),
    ("Error [CUDA]", "device_lost"),  # Triton's
    ("CUDNN_STATUS_EXECUTION_FAILED", "device_lost"),
    ("CUDNN_STATUS_INTERNAL_ERROR", "device_lost"),
    ("CUDNN_STATUS_MAPPING_ERROR", "device_lost"),
    ("CUBLAS_STATUS_EXECUTION_FAILED", "device_lost"),
    ("CUBLAS_STATUS_INTERNAL_ERROR", "device_lost"),
    ("CUBLAS_STATUS_NOT_INITIALIZED", "device_lost"),
)


@dataclass(frozen=True)
class Device:
    """Where models run, and in which precision: half on CUDA, single elsewhere.

    Without `torch`, what is measured is this process's own memory. `bound_for` is the kind of another device, to
    which the models read on this one will be moved; nothing here asks whether it is there.
    """

    kind: Kind
    torch: bool = True
    bound_for: Kind | None = None

    @property
    def runs_on(self) -> Kind:
        """The kind of device that its models are to run on, by which their files and their precision are chosen."""
        return self.bound_for or self.kind

    @property
    def dtype(self) -> Any:
        """torch.float16 or torch.float32."""
        import torch

        return torch.float16 if self.runs_on == "cuda" else torch.float32

    def memory_used(self) -> int:
        """Bytes held now: allocated on the card, or resident in the process."""
        if self._has_torch_cuda:
            import torch

            return int(torch.cuda.memory_allocated())
        return rss_bytes()

    def memory_free(self) -> int:
        """Bytes that one more model could take: of the card, or of this machine; 0 where that is not known."""
        if self._has_torch_cuda:
            import torch

            kept = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
            return int(torch.cuda.mem_get_info()[0]) + kept
        return memory_available()

    def peak_memory(self) -> int:
        """The most bytes held since `reset_peak`, or since the start of the process off CUDA."""
        if self._has_torch_cuda:
            import torch

            return int(torch.cuda.max_memory_allocated())
        return peak_rss_bytes()

    def reset_peak(self) -> None:
        """Start measuring the peak anew, where the device can."""
        if self._has_torch_cuda:
            import torch

            torch.cuda.reset_peak_memory_stats()

    @property
    def _has_torch_cuda(self) -> bool:
        return self.torch and self.kind == "cuda"


def pick(name: str, *, torch_free: bool = False) -> Device:
    """The device named, or the best there is for `auto`; imports torch, which takes seconds, unless `torch_free`."""
    if torch_free:
        return Device(_best_without_torch() if name == "auto" else name, torch=False)  # type: ignore[arg-type]
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    return Device(name)  # type: ignore[arg-type]


def _best_without_torch() -> Kind:
    if sys.platform == "darwin":
        return "mps"
    return "cuda" if cards() else "cpu"


def cards() -> int:
    """How many CUDA devices the driver counts: docs.nvidia.com/cuda/cuda-driver-api."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int()
    return 0 if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)) else count.value


def usable_cpus(quota: Path = CPU_QUOTA) -> int:
    """The cores that this process may use: a container's share, not the machine's."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        most, period = quota.read_text().split()
        return max(1, min(cores, int(most) // int(period)))
    except (OSError, ValueError):  # no cgroup v2, or "max": no limit
        return cores


def works(device: Device) -> None:
    """Compute something small on the device, or raise what torch raises."""
    import torch

    total = (torch.ones(64, 64, device=device.kind) @ torch.ones(64, 64, device=device.kind)).sum().item()
    if total != 64**3:
        raise RuntimeError(f"a product of ones on {device.kind} came to {total}, not {64**3}")


@contextmanager
def expecting(kind: Kind) -> Iterator[None]:
    """Within the block, libraries that ask torch for a card hear that there is one if it is the kind to come.

    diffusers asks when it is imported, and CUDA, once asked on a machine without a card, finds none for ever after.
    """
    import torch

    asks = torch.cuda.is_available
    torch.cuda.is_available = lambda: kind == "cuda"
    try:
        yield
    finally:
        torch.cuda.is_available = asks


def free_memory() -> None:
    """Give back what no live object holds."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():  # unlike is_available, it does not look for a card
        torch.cuda.empty_cache()


def classify(exc: BaseException) -> Ruin | None:
    """Whether an error, or one that it was raised from, is the device's; imports nothing."""
    seen: BaseException | None = exc
    while seen is not None:
        if ruin := _ruin_of(seen):
            return ruin
        seen = seen.__cause__ or seen.__context__
    return None


def _ruin_of(exc: BaseException) -> Ruin | None:
    if isinstance(exc, MemoryError):
        return "out_of_memory"
    if not isinstance(exc, RuntimeError):  # torch.OutOfMemoryError and torch.AcceleratorError are RuntimeErrors
        return None
    return next((ruin for part, ruin in RUIN_BY_MESSAGE if part in str(exc)), None)


def is_lost(device: Device) -> bool:
    """Whether a card has stopped computing, however the error was worded that made one ask; False off CUDA."""
    if device.kind != "cuda" or not device.torch:
        return False
    try:
        works(device)
    except Exception as exc:  # noqa: BLE001 whatever the driver raises
        return classify(exc) != "out_of_memory"
    return False


def memory_available(meminfo: Path = MEMINFO, cgroup: Path = CGROUP) -> int:
    """Bytes of this machine, and of this container's share of it, that could be had without swapping.

    0 where the system does not tell.
    """
    try:
        available = _numbers(meminfo)["MemAvailable:"] * 1024
    except (OSError, ValueError, KeyError):
        return 0
    try:
        used = int((cgroup / "memory.current").read_text()) - _numbers(cgroup / "memory.stat")["inactive_file"]
        return max(0, min(available, int((cgroup / "memory.max").read_text()) - used))
    except (OSError, ValueError, KeyError):  # no control group of version 2, or one without a limit
        return available


def _numbers(file: Path) -> dict[str, int]:
    """The second word of each line by its first."""
    return {words[0]: int(words[1]) for line in file.read_text().splitlines() if len(words := line.split()) > 1}


def rss_bytes() -> int:
    """The memory that this process holds now; the most it ever held, where the system tells no more."""
    try:
        return int(STATM.read_text().split()[1]) * resource.getpagesize()
    except OSError:
        return peak_rss_bytes()


def peak_rss_bytes() -> int:
    """The most memory that this process has held at once."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
