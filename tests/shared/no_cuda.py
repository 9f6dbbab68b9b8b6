"""A torch that was built for CUDA, as far as its callers see, on a machine where nobody may ask for a card."""

import types
from typing import Any, NoReturn

import torch

# They ask nobody where this process has asked nobody.
HARMLESS = ("is_initialized", "_is_in_bad_fork", "_is_compiled", "empty_cache")
NATIVE = (
    "_cuda_getDeviceCount",
    "_cuda_init",
    "_cuda_getDevice",
    "_cuda_getCurrentRawStream",
    "_cuda_memoryStats",
    "_cuda_emptyCache",
)


class Asked(BaseException):
    """CUDA was asked; nothing that catches errors catches this."""


def forbid() -> list[str]:
    """Let torch's functions that ask CUDA raise; the list gets the name of each that is called all the same."""
    asked: list[str] = []

    def refusing(name: str) -> Any:
        def refuse(*_: Any, **__: Any) -> NoReturn:
            asked.append(name)
            raise Asked(name)

        return refuse

    for module in (torch.cuda, torch.cuda.memory, torch.cuda.random):
        for name, found in list(vars(module).items()):
            if isinstance(found, types.FunctionType) and name not in HARMLESS:
                setattr(module, name, refusing(f"{module.__name__}.{name}"))
    for name in NATIVE:
        setattr(torch._C, name, refusing(f"torch._C.{name}"))
    torch._C._accelerator_getAccelerator = lambda: torch.device("cuda")  # what the build is for; asks nobody
    return asked


def bites(asked: list[str]) -> bool:
    """Whether questions such as libraries ask are refused; forgets that they were asked."""
    import torch.nn

    from shared import device

    questions = (
        torch.cuda.is_available,
        torch.cuda.device_count,
        torch.accelerator.is_available,
        lambda: torch.zeros(1, device="cuda"),
        lambda: torch.nn.Linear(1, 1).to("cuda"),
        lambda: device.pick("auto"),
        lambda: device.works(device.Device("cuda")),
        lambda: device.Device("cuda").memory_free(),
        lambda: device.Device("cuda").memory_used(),
        lambda: device.Device("cuda").reset_peak(),
    )
    refused = [_refused(question) for question in questions]
    asked.clear()
    return all(refused)


def _refused(question: Any) -> bool:
    try:
        question()
    except Asked:
        return True
    return False
