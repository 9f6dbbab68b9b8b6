"""Networks of other architectures for enlarging pictures, through the optional library spandrel."""

from typing import Any

import torch
from torch import Tensor, nn

from shared.errors import ModelUnavailable
from shared.models.esrgan_weights import UNDERSTOOD, State

FAR = 1_000_000  # such networks may look at the whole picture
VALUES = 3 * 64  # at once and for each pixel of the result: a guess from those known


class SpandrelNetwork(nn.Module):
    """A network that spandrel loaded, as tiles run it; one picture after the other, since some take no batch."""

    def __init__(self, described: Any) -> None:
        super().__init__()
        self.scale = int(described.scale)
        self.reach = FAR
        self.live_values = VALUES * self.scale**2
        self.takes_half = bool(described.supports_half)
        self.model: nn.Module = described.model
        self._described = described

    def forward(self, pictures: Tensor) -> Tensor:
        return torch.cat([self._described(picture[None]) for picture in pictures])


def load(name: str, state: State) -> SpandrelNetwork:
    """The network of a checkpoint that is none of ours.

    Raises:
        ModelUnavailable: spandrel is not installed, does not know it either, or it takes no colours.
    """
    try:
        import spandrel
    except ImportError as exc:
        raise ModelUnavailable(
            f"{name} is of an architecture that is not built in, which are: {UNDERSTOOD}; others are loaded where "
            "spandrel is installed (pip install 'pilotlight[spandrel]')"
        ) from exc
    try:
        described = spandrel.ModelLoader().load_from_state_dict(state)
    except Exception as exc:  # whatever its architectures raise
        raise ModelUnavailable(f"{name} is of an architecture that spandrel does not know either") from exc
    if not isinstance(described, spandrel.ImageModelDescriptor) or {
        described.input_channels,
        described.output_channels,
    } != {3}:
        raise ModelUnavailable(f"{name} does not make a picture in colours of one alone")
    return SpandrelNetwork(described)
