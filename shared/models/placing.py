"""Networks that are read before their device is there: kept in memory, and moved to it later."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from shared.models.stages import Stages

if TYPE_CHECKING:
    from torch import nn

    from shared.device import Device


def keep(parts: Iterable[Any]) -> None:
    """Copy the networks among the parts out of the files that libraries map them from.

    A snapshot of the process would hold the mapping and not what is in it, and a volume is busy while it is mapped.
    """
    for network in _networks(parts):
        for tensor in (*network.parameters(), *network.buffers()):
            tensor.data = tensor.data.clone()


def move(parts: Iterable[Any], device: "Device") -> dict[str, float]:
    """Move the networks among the parts to the device, as they are; returns what its loading took, by stage."""
    stages = Stages()
    with stages.measure("to_device"):
        for network in _networks(parts):
            network.to(device.kind)
    return stages.seconds


def _networks(parts: Iterable[Any]) -> "list[nn.Module]":
    from torch import nn

    return [part for part in parts if isinstance(part, nn.Module)]
