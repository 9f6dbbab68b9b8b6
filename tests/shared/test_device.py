"""The device: which errors are its own, whether it works, and that asking so costs no import of torch."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from shared.device import (
    Device,
    Kind,
    classify,
    expecting,
    is_lost,
    memory_available,
    peak_rss_bytes,
    pick,
    rss_bytes,
    usable_cpus,
    works,
)
from shared.errors import InvalidInput, OutOfMemory, Ruin

ROOT = Path(__file__).parents[2]
PETABYTE = 2**50


@pytest.mark.parametrize(
    ("error", "ruin"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."), "out_of_memory"),
        (RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported later"), "out_of_memory"),
        (RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"), "out_of_memory"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), "out_of_memory"),
        (MemoryError(), "out_of_memory"),
        (torch.AcceleratorError("CUDA error: an illegal memory access was encountered", 700), "device_lost"),
        (RuntimeError("CUDA error: device-side assert triggered"), "device_lost"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`"), "device_lost"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), "device_lost"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED"), None),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)"), None),
        (ValueError("out of memory"), None),
        (InvalidInput("the prompt says: CUDA error"), None),
        (OutOfMemory("already ours"), None),
        (KeyboardInterrupt(), None),
    ],
    ids=lambda value: str(value)[:40],
)
def test_tells_the_devices_errors_from_others(error: BaseException, ruin: Ruin | None) -> None:
    assert classify(error) == ruin


def test_knows_what_torch_raises_when_memory_is_short() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(PETABYTE, dtype=torch.float32)
    assert classify(caught.value) == "out_of_memory"


def test_knows_what_numpy_raises_when_memory_is_short() -> None:
    with pytest.raises(MemoryError) as caught:
        np.empty(PETABYTE, np.float32)
    assert classify(caught.value) == "out_of_memory"


def test_knows_a_shape_that_does_not_fit_as_a_mistake_not_a_lack_of_memory() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.ones(2, 3) @ torch.ones(4, 5)
    assert classify(caught.value) is None


def test_a_device_that_computes_works() -> None:
    works(Device("cpu"))


def test_a_device_that_is_not_there_does_not_work() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has an NVIDIA card")
    with pytest.raises((RuntimeError, AssertionError)):
        works(Device("cuda"))


def test_auto_is_the_best_device_there_is() -> None:
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    assert pick("auto").kind == ("cuda" if cuda else "mps" if mps else "cpu")
    assert pick("cpu") == Device("cpu")


def test_half_precision_is_for_cuda_only() -> None:
    assert [Device(kind).dtype for kind in ("cuda", "cpu", "mps")] == [torch.float16, torch.float32, torch.float32]


def test_what_is_read_for_a_card_has_its_precision_and_counts_this_machines_memory() -> None:
    ahead = Device("cpu", bound_for="cuda")
    assert (ahead.dtype, ahead.runs_on) == (torch.float16, "cuda")
    assert (Device("cpu", bound_for="cpu").dtype, Device("cpu").runs_on) == (torch.float32, "cpu")
    assert min(ahead.memory_used(), ahead.peak_memory(), ahead.memory_free()) > 0
    ahead.reset_peak()
    works(ahead)
    assert not is_lost(ahead)


@pytest.mark.parametrize("kind", ["cuda", "cpu"])
def test_who_asks_for_a_card_hears_of_the_device_to_come(kind: Kind) -> None:
    asks = torch.cuda.is_available
    with pytest.raises(ZeroDivisionError), expecting(kind):
        assert torch.cuda.is_available() == (kind == "cuda")
        raise ZeroDivisionError
    assert torch.cuda.is_available is asks


def test_memory_is_counted_and_given_back() -> None:
    before, size = rss_bytes(), 256 * 2**20
    held = bytearray(b"x") * size
    assert 0.9 * size < rss_bytes() - before < 1.5 * size
    del held
    assert rss_bytes() - before < 0.5 * size
    assert peak_rss_bytes() - before > 0.9 * size
    assert Device("cpu").peak_memory() >= Device("cpu").memory_used()


MEMINFO = "MemTotal:       2000 kB\nMemFree:  100 kB\nMemAvailable:   1000 kB\nHugePages_Total:       0\n"


@pytest.mark.parametrize(
    ("most", "used", "inactive", "available"),
    [
        ("max", 0, 0, 1_024_000),
        ("500000", 200_000, 50_000, 350_000),
        ("500000", 700_000, 0, 0),
        ("9" * 12, 5, 0, 1_024_000),
    ],
)
def test_memory_is_available_within_the_containers_share(
    tmp_path: Path, most: str, used: int, inactive: int, available: int
) -> None:
    (tmp_path / "meminfo").write_text(MEMINFO)
    (tmp_path / "memory.max").write_text(f"{most}\n")
    (tmp_path / "memory.current").write_text(f"{used}\n")
    (tmp_path / "memory.stat").write_text(f"anon 7\ninactive_file {inactive}\n")
    assert memory_available(tmp_path / "meminfo", tmp_path) == available


def test_memory_of_a_system_that_does_not_tell_is_none(tmp_path: Path) -> None:
    assert memory_available(tmp_path / "none", tmp_path) == 0
    (tmp_path / "meminfo").write_text(MEMINFO)
    assert memory_available(tmp_path / "meminfo", tmp_path) == 1_024_000
    assert Device("cpu").memory_free() > 0


def test_importing_the_module_and_classifying_imports_no_torch() -> None:
    code = (
        "import sys; from shared import device; from shared.models import pool, store, diffusion, sampling\n"
        "assert device.classify(MemoryError()) == 'out_of_memory'; device.free_memory()\n"
        "print([m for m in ('torch', 'diffusers', 'transformers', 'huggingface_hub') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("quota", "most"),
    [("200000 100000", 2), ("150000 100000", 1), ("50000 100000", 1), ("100000000 100000", 10**6), ("1000 1000", 1)],
)
def test_a_containers_share_of_the_cores_is_what_may_be_used(tmp_path: Path, quota: str, most: int) -> None:
    file = tmp_path / "cpu.max"
    file.write_text(f"{quota}\n")
    assert usable_cpus(file) == min(most, usable_cpus(tmp_path / "none"))


@pytest.mark.parametrize("content", ["max 100000\n", "", "max", "what is this"])
def test_without_a_limit_all_cores_may_be_used(tmp_path: Path, content: str) -> None:
    file = tmp_path / "cpu.max"
    file.write_text(content)
    assert usable_cpus(file) == usable_cpus(tmp_path / "none") >= 1
    assert usable_cpus(file) <= (os.cpu_count() or 1)


def test_a_device_can_be_picked_and_measured_without_torch() -> None:
    code = (
        "import sys; from shared import device\n"
        "for name in ('auto', 'cpu', 'cuda'):\n"
        "    picked = device.pick(name, torch_free=True)\n"
        "    assert name in ('auto', picked.kind) and picked.memory_used() > 0\n"
        "    picked.reset_peak(); picked.peak_memory(); assert not device.is_lost(picked)\n"
        "device.free_memory(); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_processor_is_never_lost() -> None:
    assert not is_lost(Device("cpu"))
