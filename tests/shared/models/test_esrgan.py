"""The networks of Real-ESRGAN have the sizes, names and reach of the published ones."""

import pytest
import torch
from torch import Tensor, nn

from shared.models.esrgan import RRDBNet, SRVGGNetCompact, blend


def published() -> dict[str, RRDBNet | SRVGGNetCompact]:
    """The networks of the release's checkpoints, without weights."""
    with torch.device("meta"):
        return {
            "x4plus": RRDBNet(),
            "x2plus": RRDBNet(unshuffle=2),
            "x4plus_anime_6B": RRDBNet(blocks=6),
            "general-x4v3": SRVGGNetCompact(convolutions=32),
            "animevideov3": SRVGGNetCompact(convolutions=16),
        }


@pytest.mark.parametrize(
    ("name", "parameters", "scale"),
    [
        ("x4plus", 16_697_987, 4),
        ("x2plus", 16_703_171, 2),
        ("x4plus_anime_6B", 4_467_779, 4),
        ("general-x4v3", 1_213_296, 4),
        ("animevideov3", 621_424, 4),
    ],
)
def test_has_the_parameters_and_the_factor_of_the_published_network(name: str, parameters: int, scale: int) -> None:
    network = published()[name]
    assert sum(weight.numel() for weight in network.parameters()) == parameters
    assert network.scale == scale


def test_names_its_parameters_as_the_published_checkpoints_do() -> None:
    pictures, videos = (published()[name].state_dict() for name in ("x4plus", "animevideov3"))
    layers = [f"body.{b}.rdb{r}.conv{c}" for b in range(23) for r in (1, 2, 3) for c in (1, 2, 3, 4, 5)]
    layers = ["conv_first", *layers, "conv_body", "conv_up1", "conv_up2", "conv_hr", "conv_last"]
    assert list(pictures) == [f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")]
    assert pictures["body.0.rdb1.conv5.weight"].shape == (64, 192, 3, 3)
    kinds = [("weight", "bias") if n % 2 == 0 else ("weight",) for n in range(35)]
    assert list(videos) == [f"body.{n}.{kind}" for n, names in enumerate(kinds) for kind in names]
    assert (videos["body.33.weight"].shape, videos["body.34.weight"].shape) == ((64,), (48, 64, 3, 3))


SMALL = {
    "pictures": RRDBNet(features=4, growth=2, blocks=1),
    "pixel-unshuffle": RRDBNet(features=4, growth=2, blocks=1, unshuffle=2),
    "thrice doubled": RRDBNet(features=4, growth=2, blocks=1, doublings=3),
    "videos": SRVGGNetCompact(features=4, convolutions=2),
    "videos, twice": SRVGGNetCompact(features=4, convolutions=2, scale=2),
}
each_small = pytest.mark.parametrize("network", SMALL.values(), ids=list(SMALL))


@each_small
@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 7), (8, 6)])
def test_any_size_is_enlarged(network: RRDBNet | SRVGGNetCompact, height: int, width: int) -> None:
    made = network(torch.rand(2, 3, height, width))
    assert made.shape == (2, 3, height * network.scale, width * network.scale)


@each_small
def test_nothing_beyond_its_reach_changes_a_pixel(network: RRDBNet | SRVGGNetCompact) -> None:
    """Seen by the gradient of one pixel; one pixel nearer, something would."""
    side = 2 * network.reach + 9
    given = torch.rand(1, 3, side, side, requires_grad=True)
    at = side // 2 * network.scale
    gradient: Tensor = torch.autograd.grad(network(given)[0, :, at, at].sum(), given)[0]
    seen = gradient.abs().sum((0, 1)).nonzero()
    distance = (seen - side // 2).abs().max().item()
    assert network.reach - 6 <= distance <= network.reach


def test_doubling_adds_what_the_video_network_computes_to_the_repeated_pixels() -> None:
    network = SRVGGNetCompact(features=4, convolutions=1, scale=2)
    for weight in network.parameters():
        nn.init.zeros_(weight)
    pictures = torch.rand(1, 3, 4, 5)
    assert torch.equal(network(pictures), pictures.repeat_interleave(2, 2).repeat_interleave(2, 3))


def test_a_blend_lies_between_two_networks() -> None:
    one, other = {"layer": torch.tensor([1.0, 2.0])}, {"layer": torch.tensor([3.0, -2.0])}
    assert blend(one, other, 1.0)["layer"].tolist() == [1, 2]
    assert blend(one, other, 0.0)["layer"].tolist() == [3, -2]
    assert blend(one, other, 0.75)["layer"].tolist() == [1.5, 1]
