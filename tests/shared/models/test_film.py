"""FILM: the published network's names and sizes, the same results by every way to run it."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from shared.models.film import FILM, RGB, Encoded, Sizes, warp
from tests.shared.models.films import SMALL, random_film

# Of the published network: github.com/dajes/frame-interpolation-pytorch, release 1.0.2.
PUBLISHED = {
    "extract.extract_sublevels.convs.0.0.0.weight": (64, 3, 3, 3),
    "extract.extract_sublevels.convs.3.1.0.bias": (512,),
    "predict_flow._predictor._convs.0.0.weight": (256, 1920, 3, 3),
    "predict_flow._predictor._convs.4.0.weight": (2, 128, 1, 1),
    "predict_flow._predictors.0._convs.0.0.weight": (128, 896, 3, 3),
    "predict_flow._predictors.2._convs.3.0.weight": (16, 32, 1, 1),
    "fuse.output_conv.weight": (3, 64, 1, 1),
    "fuse.convs.0.0.0.weight": (512, 1930, 2, 2),
    "fuse.convs.0.1.0.weight": (512, 2442, 3, 3),
    "fuse.convs.1.1.0.weight": (256, 1162, 3, 3),
    "fuse.convs.3.0.0.weight": (64, 128, 2, 2),
    "fuse.convs.3.1.0.weight": (64, 202, 3, 3),
    "fuse.convs.3.2.0.bias": (64,),
}


def pictures(count: int = 2, height: int = 64, width: int = 80) -> list[Tensor]:
    """Smooth random pictures."""
    coarse = torch.rand(count, 3, height // 8, width // 8, generator=torch.Generator().manual_seed(1))
    return list(functional.interpolate(coarse, size=(height, width), mode="bilinear").chunk(count))


def waves(shift: float) -> Tensor:
    """A picture by a formula, (1, 3, 64, 80)."""
    y, x = torch.arange(64.0)[:, None], torch.arange(80.0) - shift
    return torch.stack([0.5 + 0.5 * torch.sin(x * (0.11 + 0.05 * c) + y * (0.07 + 0.04 * c) + c) for c in range(3)])[
        None
    ]


def at(time: float) -> Tensor:
    return torch.full((1, 1), time)


def test_has_the_parameters_of_the_published_network() -> None:
    with torch.device("meta"):
        state = FILM().state_dict()
    assert sum(weight.numel() for weight in state.values()) == 34_436_667
    assert {name: tuple(state[name].shape) for name in PUBLISHED} == PUBLISHED
    convolutions = 4 * 2 + 4 * (3 + 2) + 1 + 4 * 3  # features, flow, the output, fusion
    assert len(state) == 2 * convolutions


@pytest.mark.parametrize("sizes", [Sizes(), SMALL], ids=["published", "small"])
def test_sizes_are_read_off_the_weights(sizes: Sizes) -> None:
    with torch.device("meta"):
        state = FILM(sizes).state_dict()
    assert Sizes.of(state, sizes.pyramid_levels) == sizes


def test_weights_of_something_else_have_no_sizes() -> None:
    with pytest.raises(KeyError):
        Sizes.of({"conv.weight": torch.zeros(3)})


@pytest.mark.parametrize("time", [0.5, 0.25])
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
def test_computes_what_its_torchscript_form_computes(time: float) -> None:
    film, (first, last) = random_film(), pictures()
    jit: Any = torch.jit  # it is not typed
    traced = jit.trace(film, (first, last, at(0.7)), check_trace=False)
    assert (film(first, last, at(time)) - traced(first, last, at(time))).abs().max() < 1e-4


def test_computes_what_the_published_network_computes() -> None:
    """Of weights by a formula; the figures are those of the port whose names PUBLISHED has, made as small."""
    film = random_film()
    for number, weight in enumerate(film.parameters()):
        k = torch.arange(weight.numel(), dtype=torch.float64).view(weight.shape)
        scale = 2 / math.sqrt(weight[0].numel()) if weight.ndim > 1 else 0.1
        weight.copy_(scale * torch.sin(0.7 * k + number + 0.013 * k * k))
    drawn = film(waves(0.0), waves(3.0), at(0.3))[0, :, 20::30, 15::40]
    red, green, blue = (
        (0.3571, 0.3362, 0.4569, 0.5864),
        (-0.1547, -0.1841, -0.2203, -0.3522),
        (0.1397, 0.2032, 0.2218, 0.3478),
    )
    assert drawn.flatten().tolist() == pytest.approx([*red, *green, *blue], abs=5e-4)


def test_the_time_changes_the_frame() -> None:
    film, (first, last) = random_film(), pictures()
    assert not torch.allclose(film(first, last, at(0.5)), film(first, last, at(0.25)), atol=1e-6)


def test_in_bfloat16_it_is_close_to_single_precision() -> None:
    film, (first, last) = random_film(), pictures()
    exact = film(first, last, at(0.5))
    rounded = film.bfloat16()(first.bfloat16(), last.bfloat16(), at(0.5))
    assert rounded.dtype == torch.bfloat16
    assert (rounded.float() - exact).abs().mean() < 0.02 * exact.abs().mean()


def test_channels_may_lie_last() -> None:
    film, (first, last) = random_film(), pictures()
    exact = film(first, last, at(0.5))
    for image in (first, last):
        image.data = image.contiguous(memory_format=torch.channels_last)
    film.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    assert torch.allclose(film(first, last, at(0.5)), exact, atol=1e-5)


def test_is_captured_as_one_graph_by_the_compiler() -> None:
    film, (first, last) = random_film(), pictures()
    compiled = torch.compile(film, backend="eager", fullgraph=True)
    assert torch.allclose(compiled(first, last, at(0.5)), film(first, last, at(0.5)), atol=1e-6)


def test_swapping_the_frames_swaps_the_flows() -> None:
    film, images = random_film(), pictures()
    one, other = (film.encode(image) for image in images)
    there, back = film.flows(one, other), film.flows(other, one)
    assert [flow.shape[2] for flow in there.forward] == [64, 32, 16]
    for flow, same in zip(there.forward, back.backward, strict=True):
        assert torch.equal(flow, same)
    assert not torch.allclose(there.forward[0], there.backward[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_warping_looks_where_the_flow_points(dtype: torch.dtype) -> None:
    """At a width where places in half precision would be off by more than the pattern is wide."""
    image = (torch.arange(1000).view(1, 1, 1, 1000) % 2).expand(1, 1, 4, 1000).to(dtype)
    flow = torch.zeros(1, 2, 4, 1000)
    flow[:, 0] = 1
    moved = warp(image, flow)
    assert moved.dtype == dtype
    assert (moved[..., :-1] - image[..., 1:]).abs().max() < 1e-3
    assert (moved[..., -1] - image[..., -1]).abs().max() < 1e-3  # the edge goes on


def test_warping_takes_x_before_y() -> None:
    image = torch.arange(12.0).view(1, 1, 3, 4)
    flow = torch.zeros(1, 2, 3, 4)
    flow[:, 1] = 1
    assert torch.allclose(warp(image, flow)[0, 0, :2], image[0, 0, 1:], atol=1e-5)


def test_at_each_end_that_end_is_not_warped() -> None:
    film, images = random_film(), pictures()
    one, other = (film.encode(image) for image in images)
    flows = film.flows(one, other)
    for level, channels in enumerate(film.aligned(one, other, flows, at(0.0))):
        assert torch.allclose(channels[:, :RGB], one.images[level], atol=1e-5)
    for level, channels in enumerate(film.aligned(one, other, flows, at(1.0))):
        second = RGB + film.sizes.features(level)
        assert torch.allclose(channels[:, second : second + RGB], other.images[level], atol=1e-5)


def test_levels_from_sub_levels_on_have_features_of_one_width() -> None:
    encoded: Encoded = random_film().encode(pictures(1)[0])
    assert [features.shape[1] for features in encoded.features] == [4, 12, 12, 12]
    assert [features.shape[2] for features in encoded.features] == [64, 32, 16, 8]


def test_sides_are_halved_as_often_as_there_are_levels() -> None:
    assert Sizes().multiple == 64
    assert replace(SMALL, pyramid_levels=5).multiple == 16
