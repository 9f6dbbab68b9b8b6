"""The networks of Real-ESRGAN, with the parameter names of its published checkpoints.

RRDBNet: Wang et al. 2018, arXiv:1809.00219. SRVGGNetCompact: Wang et al. 2021, arXiv:2107.10833.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

COLOURS = 3
SLOPE = 0.2  # of LeakyReLU
RESIDUAL = 0.2  # how much of a block's result is added to what it was given


class DenseBlock(nn.Module):
    """Five convolutions, each of which sees what all those before it made."""

    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        widths = [growth] * 4 + [features]
        for number, width in enumerate(widths):
            self.add_module(f"conv{number + 1}", _convolution(features + number * growth, width))

    def forward(self, given: Tensor) -> Tensor:
        *inner, last = self.children()
        seen = given
        for convolution in inner:
            seen = torch.cat((seen, _leaky(convolution(seen))), 1)
        return _added(last(seen), given)


class RRDB(nn.Module):
    """A residual block of three residual dense blocks."""

    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        self.rdb1, self.rdb2, self.rdb3 = (DenseBlock(features, growth) for _ in range(3))

    def forward(self, given: Tensor) -> Tensor:
        return _added(self.rdb3(self.rdb2(self.rdb1(given))), given)


class RRDBNet(nn.Module):
    """Real-ESRGAN's network for pictures: (n, 3, h, w) in 0..1 to (n, 3, scale * h, scale * w).

    It doubles the size `doublings` times, after `unshuffle` x `unshuffle` pixels became channels of one.
    """

    def __init__(
        self, *, features: int = 64, growth: int = 32, blocks: int = 23, doublings: int = 2, unshuffle: int = 1
    ) -> None:
        super().__init__()
        self.unshuffle = unshuffle
        self.scale = 2**doublings // unshuffle
        trunk = 1 + 15 * blocks + 1  # convolutions, each of which reaches one pixel further
        self.reach = unshuffle * (trunk + 3)  # those at the doubled sizes reach less than three pixels together
        self.live_values = 3 * features * self.scale**2
        self.conv_first = _convolution(COLOURS * unshuffle**2, features)
        self.body = nn.Sequential(*(RRDB(features, growth) for _ in range(blocks)))
        self.conv_body = _convolution(features, features)
        for number in range(doublings):
            self.add_module(f"conv_up{number + 1}", _convolution(features, features))
        self.conv_hr = _convolution(features, features)
        self.conv_last = _convolution(features, COLOURS)

    def forward(self, pictures: Tensor) -> Tensor:
        height, width = pictures.shape[-2:]
        seen = self.conv_first(self._unshuffled(pictures))
        seen = seen + self.conv_body(self.body(seen))
        for name, convolution in self.named_children():
            if name.startswith("conv_up"):
                seen = _leaky(convolution(functional.interpolate(seen, scale_factor=2.0, mode="nearest")))
        made: Tensor = self.conv_last(_leaky(self.conv_hr(seen)))
        return made[..., : height * self.scale, : width * self.scale]

    def _unshuffled(self, pictures: Tensor) -> Tensor:
        if self.unshuffle == 1:
            return pictures
        below, right = (-side % self.unshuffle for side in pictures.shape[-2:])
        return functional.pixel_unshuffle(functional.pad(pictures, (0, right, 0, below), "replicate"), self.unshuffle)


class SRVGGNetCompact(nn.Module):
    """Real-ESRGAN's small network, for videos: (n, 3, h, w) in 0..1 to (n, 3, scale * h, scale * w).

    All its work is at the size of the input; the result is added to the input's enlarged pixels.
    """

    def __init__(self, *, features: int = 64, convolutions: int = 16, scale: int = 4) -> None:
        super().__init__()
        self.scale = scale
        self.reach = convolutions + 2
        self.live_values = 3 * features + 3 * COLOURS * scale**2
        widths = [COLOURS] + [features] * (convolutions + 1)
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [_convolution(before, after), nn.PReLU(after)]
        self.body = nn.ModuleList([*layers, _convolution(features, COLOURS * scale**2)])

    def forward(self, pictures: Tensor) -> Tensor:
        seen = pictures
        for layer in self.body:
            seen = layer(seen)
        enlarged = functional.interpolate(pictures, scale_factor=float(self.scale), mode="nearest")
        return functional.pixel_shuffle(seen, self.scale) + enlarged


Network = RRDBNet | SRVGGNetCompact


def blend(one: dict[str, Tensor], other: dict[str, Tensor], share: float) -> dict[str, Tensor]:
    """The weights `share` x one + (1 - share) x other, which make a network between the two."""
    return {name: torch.lerp(other[name], weight, share) for name, weight in one.items()}


def _convolution(before: int, after: int) -> nn.Conv2d:
    return nn.Conv2d(before, after, 3, padding=1)


def _leaky(seen: Tensor) -> Tensor:
    return functional.leaky_relu(seen, SLOPE, inplace=True)


def _added(made: Tensor, given: Tensor) -> Tensor:
    return torch.add(given, made, alpha=RESIDUAL)
