"""FILM, the network that draws the frame between two frames (Reda et al., ECCV 2022, arXiv:2202.04901).

The parameters are named as in its published port to PyTorch, so that its weights load:
github.com/dajes/frame-interpolation-pytorch.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

RGB = 3
FLOW = 2  # x and y, in pixels of the level
SLOPE = 0.2  # of LeakyReLU below zero


@dataclass(frozen=True)
class Sizes:
    """How deep and wide a network is; the defaults are the published network's. Level 0 is the finest."""

    pyramid_levels: int = 7
    fusion_levels: int = 5
    specialised_levels: int = 3
    sub_levels: int = 4
    filters: int = 64
    flow_convolutions: tuple[int, ...] = (3, 3, 3, 3)
    flow_filters: tuple[int, ...] = (32, 64, 128, 256)

    @classmethod
    def of(cls, state: Mapping[str, Tensor], pyramid_levels: int = 7) -> "Sizes":
        """The sizes of the network that a state dict is of; how often pictures are halved, no weight tells.

        Raises:
            KeyError: it is of no such network.
        """
        specialised = _count(state, "predict_flow._predictors.")
        predictors = [f"predict_flow._predictors.{k}." for k in reversed(range(specialised))]
        predictors.append("predict_flow._predictor.")
        return cls(
            pyramid_levels=pyramid_levels,
            fusion_levels=_count(state, "fuse.convs.") + 1,
            specialised_levels=specialised,
            sub_levels=_count(state, "extract.extract_sublevels.convs."),
            filters=len(state["extract.extract_sublevels.convs.0.0.0.weight"]),
            flow_convolutions=tuple(_count(state, f"{p}_convs.") - 2 for p in predictors),
            flow_filters=tuple(len(state[f"{p}_convs.0.0.weight"]) for p in predictors),
        )

    @property
    def multiple(self) -> int:
        """What height and width must be a multiple of, for every level to be half of the one before."""
        return int(2 ** (self.pyramid_levels - 1))

    def features(self, level: int) -> int:
        """Channels of one frame's features at a level: those of each sub-extractor that reaches it."""
        return sum(self.filters << n for n in range(min(level + 1, self.sub_levels)))

    def aligned(self, level: int) -> int:
        """Channels that fusion is given at a level: two warped frames with their features, and both flows."""
        return 2 * (RGB + self.features(level) + FLOW)

    def fused(self, level: int) -> int:
        """Channels that fusion computes at a level; the coarsest is taken as it is."""
        if level == self.fusion_levels - 1:
            return self.aligned(level)
        return self.filters << min(level, self.specialised_levels)


def _count(state: Mapping[str, Tensor], prefix: str) -> int:
    return len({name.removeprefix(prefix).split(".")[0] for name in state if name.startswith(prefix)})


class Encoded(NamedTuple):
    """A frame's pyramids, finest level first: its pictures (n, 3, h, w) and features (n, c, h, w)."""

    images: list[Tensor]
    features: list[Tensor]


class Flows(NamedTuple):
    """Flow pyramids (n, 2, h, w) in float32: where each pixel of the one frame is in the other."""

    forward: list[Tensor]
    backward: list[Tensor]


def _convolution(inputs: int, outputs: int, size: int, *, activated: bool = True) -> nn.Sequential:
    """A convolution that keeps the size, as module "0"; an even kernel looks down and to the right."""
    odd = size % 2 == 1
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    if not odd:
        layers["pad"] = nn.ZeroPad2d((0, size - 1, 0, size - 1))
    layers["0"] = nn.Conv2d(inputs, outputs, size, padding=size // 2 if odd else 0)
    if activated:
        layers["activation"] = nn.LeakyReLU(SLOPE, inplace=True)
    return nn.Sequential(layers)


class SubExtractor(nn.Module):
    """Features of one picture at several levels; the same weights serve pictures of every size."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        widths = [sizes.filters << level for level in range(sizes.sub_levels)]
        pairs = zip([RGB, *widths], widths, strict=False)
        self.convs = nn.ModuleList(
            nn.Sequential(_convolution(before, width, 3), _convolution(width, width, 3)) for before, width in pairs
        )

    def forward(self, image: Tensor, levels: int) -> list[Tensor]:
        found = [self.convs[0](image)]
        for convolutions in list(self.convs)[1:levels]:
            found.append(convolutions(functional.avg_pool2d(found[-1], 2)))
        return found


class FeatureExtractor(nn.Module):
    """Features that mean the same at every level from `sub_levels` - 1 on, so that coarse levels share weights."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.extract_sublevels = SubExtractor(sizes)
        self._sub_levels = sizes.sub_levels

    def forward(self, images: list[Tensor]) -> list[Tensor]:
        last = len(images)
        found = [self.extract_sublevels(im, min(last - n, self._sub_levels)) for n, im in enumerate(images)]
        return [
            torch.cat([found[level - sub][sub] for sub in range(min(level + 1, self._sub_levels))], 1)
            for level in range(last)
        ]


class FlowEstimator(nn.Module):
    """What is missing from the flow between two frames' features that are roughly aligned."""

    def __init__(self, features: int, convolutions: int, filters: int) -> None:
        super().__init__()
        widths = [2 * features, *[filters] * convolutions]
        layers = [_convolution(before, filters, 3) for before in widths[:-1]]
        layers += [_convolution(filters, filters // 2, 1), _convolution(filters // 2, FLOW, 1, activated=False)]
        self._convs = nn.ModuleList(layers)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        found = torch.cat([first, second], 1)
        for convolution in self._convs:
            found = convolution(found)
        return found


class PyramidFlowEstimator(nn.Module):
    """Flow from coarse to fine; one estimator is shared by all levels but the finest."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        estimators = [
            FlowEstimator(sizes.features(level), count, filters)
            for level, (count, filters) in enumerate(zip(sizes.flow_convolutions, sizes.flow_filters, strict=True))
        ]
        self._predictor = estimators.pop()
        self._predictors = nn.ModuleList(reversed(estimators))

    def forward(self, first: list[Tensor], second: list[Tensor]) -> list[Tensor]:
        """The flow from the first frame to the second at every level, the finest first."""
        shared = [self._predictor] * (len(first) - len(self._predictors))
        flows: list[Tensor] = []
        for estimate, one, other in zip([*shared, *self._predictors], first[::-1], second[::-1], strict=True):
            if not flows:
                flows.append(estimate(one, other).float())
                continue
            flow = functional.interpolate(2 * flows[-1], size=one.shape[2:], mode="bilinear")
            flows.append(flow + estimate(one, warp(other, flow)).float())
        return flows[::-1]


class FusionLevel(nn.ModuleList):
    """What was fused at the next coarser level, joined with what both frames show at this one."""

    def __init__(self, sizes: Sizes, level: int) -> None:
        coarser, aligned, width = sizes.fused(level + 1), sizes.aligned(level), sizes.fused(level)
        narrow = _convolution(coarser, width, 2, activated=False)
        super().__init__([narrow, _convolution(aligned + width, width, 3), _convolution(width, width, 3)])

    def forward(self, coarser: Tensor, aligned: Tensor) -> Tensor:
        narrow, join, refine = self
        wider = narrow(functional.interpolate(coarser, size=aligned.shape[2:], mode="nearest"))
        found: Tensor = refine(join(torch.cat([aligned, wider], 1)))
        return found


class Fusion(nn.Module):
    """The decoder: a frame of what both frames show at its time."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.output_conv = nn.Conv2d(sizes.filters, RGB, 1)
        self.convs = nn.ModuleList(FusionLevel(sizes, level) for level in reversed(range(sizes.fusion_levels - 1)))

    def forward(self, aligned: list[Tensor]) -> Tensor:
        *finer, found = aligned
        for join, level in zip(self.convs, reversed(finer), strict=True):
            found = join(found, level)
        image: Tensor = self.output_conv(found)
        return image


class FILM(nn.Module):
    """The whole network. It was trained for the middle; other times scale the flow.

    Pictures are (n, 3, height, width) from 0 to 1, of sides that are multiples of `sizes.multiple`. The result may
    overshoot that range.
    """

    def __init__(self, sizes: Sizes | None = None) -> None:
        super().__init__()
        self.sizes = sizes or Sizes()
        self.extract = FeatureExtractor(self.sizes)
        self.predict_flow = PyramidFlowEstimator(self.sizes)
        self.fuse = Fusion(self.sizes)

    def forward(self, first: Tensor, last: Tensor, time: Tensor) -> Tensor:
        """The frame at `time` (n, 1), 0 the first frame's and 1 the last one's."""
        one, other = self.encode(first), self.encode(last)
        return self.between(one, other, self.flows(one, other), time)

    def encode(self, image: Tensor) -> Encoded:
        """What is computed of a frame alone, for each pair that it is in."""
        images = [image]
        for _ in range(self.sizes.pyramid_levels - 1):
            images.append(functional.avg_pool2d(images[-1], 2))
        return Encoded(images, self.extract(images))

    def flows(self, first: Encoded, last: Encoded) -> Flows:
        """What is computed of a pair, for each time in it."""
        forward = self.predict_flow(first.features, last.features)
        backward = self.predict_flow(last.features, first.features)
        return Flows(forward[: self.sizes.fusion_levels], backward[: self.sizes.fusion_levels])

    def between(self, first: Encoded, last: Encoded, flows: Flows, time: Tensor) -> Tensor:
        """The frame at `time`, from what is known of the pair."""
        image: Tensor = self.fuse(self.aligned(first, last, flows, time))
        return image

    def aligned(self, first: Encoded, last: Encoded, flows: Flows, time: Tensor) -> list[Tensor]:
        """Both frames with their features warped to `time`, and the flows that did it, channel after channel."""
        at = time.float()[:, :, None, None]
        levels = []
        for level in range(self.sizes.fusion_levels):
            to_first, to_last = flows.backward[level] * at, flows.forward[level] * (1 - at)
            image = first.images[level]
            parts = [warp(one, to_first) for one in (image, first.features[level])]
            parts += [warp(other, to_last) for other in (last.images[level], last.features[level])]
            levels.append(torch.cat([*parts, to_first.to(image.dtype), to_last.to(image.dtype)], 1))
        return levels


def warp(image: Tensor, flow: Tensor) -> Tensor:
    """The picture whose pixel p is the image's at p + flow; the edge goes on outside.

    Sampled in float32: in half precision the places themselves would be off by up to 0.1 pixels.
    """
    height, width = flow.shape[2:]
    x = torch.arange(width, device=flow.device, dtype=torch.float32)
    y = torch.arange(height, device=flow.device, dtype=torch.float32)[:, None]
    places = torch.stack([(2 * (x + flow[:, 0]) + 1) / width - 1, (2 * (y + flow[:, 1]) + 1) / height - 1], 3)
    sampled = functional.grid_sample(image.float(), places, padding_mode="border", align_corners=False)
    return sampled.to(image.dtype)
