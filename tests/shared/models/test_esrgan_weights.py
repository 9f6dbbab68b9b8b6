"""Checkpoints in every form in which Real-ESRGAN's are passed on; what is none of them is refused in words."""

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from shared.errors import ModelUnavailable
from shared.models import esrgan_weights
from shared.models.esrgan import Network, RRDBNet, SRVGGNetCompact
from shared.models.esrgan_weights import State, Unknown, network_of, read

PICTURE = torch.rand(1, 3, 9, 7)
MAKERS: dict[str, Callable[[], Network]] = {
    "pictures": lambda: RRDBNet(features=8, growth=4, blocks=2),
    "pixel-unshuffle": lambda: RRDBNet(features=8, growth=6, blocks=1, unshuffle=2),
    "pixel-unshuffle, once": lambda: RRDBNet(features=8, growth=6, blocks=1, unshuffle=4),
    "eightfold": lambda: RRDBNet(features=8, growth=4, blocks=1, doublings=3),
    "videos": lambda: SRVGGNetCompact(features=8, convolutions=3),
    "videos, twice": lambda: SRVGGNetCompact(features=8, convolutions=2, scale=2),
}


@pytest.fixture(params=list(MAKERS))
def network(request: pytest.FixtureRequest) -> Network:
    torch.manual_seed(1)
    return MAKERS[request.param]().eval()


@pytest.fixture(params=["params_ema", "params", "bare", "safetensors", "half"])
def file(request: pytest.FixtureRequest, network: Network, tmp_path: Path) -> Path:
    """The network's weights in one of the forms."""
    path, state = (
        tmp_path / f"network.{'pth' if request.param.startswith('p') else 'safetensors'}",
        network.state_dict(),
    )
    if request.param in ("params_ema", "params"):
        torch.save({request.param: state}, path)
    elif request.param == "bare":
        torch.save(state, path := path.with_suffix(".pth"))
    else:
        save_file({name: w.half() if request.param == "half" else w for name, w in state.items()}, path)
    return path


def same(one: Network, other: Network, tolerance: float = 0) -> bool:
    return type(one) is type(other) and bool((one(PICTURE) - other(PICTURE)).abs().max() <= tolerance)


def test_the_network_is_read_off_the_weights(file: Path, network: Network) -> None:
    state = read(file)
    assert {weight.dtype for weight in state.values()} == {torch.float32}
    found = network_of(state)
    assert found.scale == network.scale
    assert same(found, network, tolerance=2e-3)  # of those in half precision


def test_the_average_is_taken_where_a_file_has_both(tmp_path: Path) -> None:
    average, last = ({"weight": torch.full((2,), value)} for value in (1.0, 2.0))
    torch.save({"params": last, "params_ema": average}, tmp_path / "both.pth")
    assert read(tmp_path / "both.pth")["weight"].tolist() == [1, 1]


def as_basicsr(state: State) -> State:
    """As the first version of BasicSR named the layers."""
    new = (("conv_body", "trunk_conv"), ("body", "RRDB_trunk"), ("rdb", "RDB"), ("conv_up", "upconv"))
    for mine, theirs in (*new, ("conv_hr", "HRconv")):
        state = {name.replace(mine, theirs): weight for name, weight in state.items()}
    return state


def as_esrgan(state: State) -> State:
    """As ESRGAN's own code numbered them: an enlarging, a convolution and an activation for each doubling."""
    doublings = sorted({name.split(".")[0] for name in state if name.startswith("conv_up")})
    blocks = len({name.split(".")[1] for name in state if name.startswith("body.")})
    last = 3 * len(doublings) + 2
    numbers = {"conv_first": 0, "conv_hr": last, "conv_last": last + 2}
    numbers |= {name: 3 * (n + 1) for n, name in enumerate(doublings)}
    renamed = {}
    for name, weight in state.items():
        layer, _, kind = name.rpartition(".")
        if layer.startswith("body."):
            _, block, dense, convolution = layer.split(".")
            layer = f"model.1.sub.{block}.{dense.upper()}.{convolution}.0"
        else:
            layer = f"model.1.sub.{blocks}" if layer == "conv_body" else f"model.{numbers[layer]}"
        renamed[f"{layer}.{kind}"] = weight
    return renamed


@pytest.mark.parametrize("name", ["pictures", "eightfold"])
@pytest.mark.parametrize("older", [as_basicsr, as_esrgan])
def test_older_names_are_understood(name: str, older: Callable[[State], State]) -> None:
    network = MAKERS[name]().eval()
    state = older(network.state_dict())
    assert "body.0.rdb1.conv1.weight" not in state
    assert same(network_of(state), network)


def test_the_oldest_names_are_those_of_its_files() -> None:
    """Names that community checkpoints are known to have, so that the test's own renaming is right."""
    names = as_esrgan(RRDBNet(features=2, growth=1).state_dict())
    assert {"model.0.weight", "model.1.sub.0.RDB1.conv1.0.weight", "model.1.sub.22.RDB3.conv5.0.bias"} <= names.keys()
    assert {"model.1.sub.23.weight", "model.3.bias", "model.6.bias", "model.8.bias", "model.10.bias"} <= names.keys()


def without_one(state: State) -> State:
    return {name: weight for name, weight in state.items() if name != "body.0.bias" and "rdb2" not in name}


def one_too_many(state: State) -> State:
    return {**state, "attention.weight": torch.ones(2, 2)}


def of_another_shape(state: State) -> State:
    return {name: weight[..., :1, :1] if weight.ndim == 4 else weight for name, weight in state.items()}


@pytest.mark.parametrize("spoil", [without_one, one_too_many, of_another_shape])
def test_a_network_that_is_only_similar_is_unknown(network: Network, spoil: Callable[[State], State]) -> None:
    with pytest.raises(Unknown):
        network_of(spoil(network.state_dict()))


@pytest.mark.parametrize("names", [["layers.0.attn.weight"], ["body.x.weight"], ["model.0.weight"], ["body.0"], []])
def test_weights_of_something_else_are_unknown(names: list[str]) -> None:
    with pytest.raises(Unknown):
        network_of({name: torch.ones(4, 3, 3, 3) for name in names})


def test_a_network_of_fewer_channels_than_colours_is_unknown() -> None:
    state = MAKERS["pictures"]().state_dict()
    with pytest.raises(Unknown):
        network_of({**state, "conv_first.weight": state["conv_first.weight"][:, :2]})


def test_a_network_that_makes_pictures_smaller_is_unknown() -> None:
    with pytest.raises(Unknown):
        network_of(RRDBNet(features=8, growth=4, blocks=1, doublings=1, unshuffle=4).state_dict())


def test_a_network_of_fewer_results_than_colours_is_unknown() -> None:
    state = SRVGGNetCompact(features=8, convolutions=2, scale=1).state_dict()
    few = {f"body.6.{kind}": state[f"body.6.{kind}"][:2] for kind in ("weight", "bias")}
    assert network_of(state).scale == 1
    with pytest.raises(Unknown):
        network_of({**state, **few})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("suffix", esrgan_weights.SUFFIXES)
def test_weights_that_are_no_numbers_are_refused(tmp_path: Path, suffix: str, value: float) -> None:
    path, state = tmp_path / f"network{suffix}", MAKERS["videos"]().state_dict()
    state["body.0.bias"][3] = value
    save_file(state, path) if suffix == ".safetensors" else torch.save({"params": state}, path)
    with pytest.raises(ModelUnavailable, match=rf"network\{suffix} holds weights that are no finite numbers"):
        read(path)


class Command:
    """What a hostile pickle holds."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.file,)


@pytest.mark.parametrize("hostile", ["zipped", "bare"])
def test_a_pickle_that_would_run_something_is_refused_and_runs_nothing(tmp_path: Path, hostile: str) -> None:
    path, trace = tmp_path / "hostile.pth", tmp_path / "was here"
    content = {"params_ema": Command(trace)}
    if hostile == "zipped":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content, protocol=2))  # the one that torch takes without a warning
    with pytest.raises(ModelUnavailable, match=r"hostile\.pth is damaged, or holds more than weights"):
        read(path)
    assert not trace.exists()


@pytest.mark.parametrize("suffix", esrgan_weights.SUFFIXES)
@pytest.mark.parametrize("damage", ["cut", "noise", "empty"])
def test_a_damaged_file_is_named(tmp_path: Path, suffix: str, damage: str) -> None:
    path, state = tmp_path / f"network{suffix}", MAKERS["videos"]().state_dict()
    save_file(state, path) if suffix == ".safetensors" else torch.save({"params": state}, path)
    whole = path.read_bytes()
    path.write_bytes({"cut": whole[: len(whole) // 2], "noise": bytes(range(256)) * 8, "empty": b""}[damage])
    with pytest.raises(ModelUnavailable, match=rf"network\{suffix} is damaged") as caught:
        read(path)
    assert str(tmp_path) not in caught.value.message


@pytest.mark.parametrize("content", [{"params": {"epoch": 3}}, [1, 2], torch.ones(2), {"params": torch.ones(1)}])
def test_a_pickle_of_something_else_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(ModelUnavailable, match=r"other\.pth holds something else than the weights"):
        read(tmp_path / "other.pth")


def test_other_kinds_of_files_are_not_read(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match=r"network\.ckpt cannot be used: only \.safetensors and \.pth"):
        read(tmp_path / "network.ckpt")
