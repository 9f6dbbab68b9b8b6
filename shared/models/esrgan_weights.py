"""Checkpoints of ESRGAN and Real-ESRGAN: read from their files, and the network that they are of."""

import math
import pickle
import re
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from shared.errors import ModelUnavailable
from shared.models.esrgan import COLOURS, Network, RRDBNet, SRVGGNetCompact
from shared.models.safetensors_header import read_header

State = dict[str, Tensor]
SUFFIXES = (".safetensors", ".pth")
INSIDE = ("params_ema", "params")  # what Real-ESRGAN puts its weights under; the average before the last
UNDERSTOOD = "RRDBNet (ESRGAN and Real-ESRGAN, pictures) and SRVGGNetCompact (Real-ESRGAN, videos)"
OLD_NAMES = (
    ("RRDB_trunk.", "body."),
    (".RDB", ".rdb"),
    ("trunk_conv.", "conv_body."),
    ("upconv", "conv_up"),
    ("HRconv.", "conv_hr."),
)
OLDEST_BLOCK = re.compile(r"model\.1\.sub\.(\d+)\.RDB(\d)\.conv(\d)\.0\.(\w+)")


class Unknown(ValueError):
    """The weights are of no network that is known here."""


def read(path: Path) -> State:
    """The weights in a file, in single precision on the CPU. A pickle is read without running anything in it.

    Raises:
        ModelUnavailable: the file is damaged, of another kind, or holds more than weights; or some are no numbers.
    """
    if path.suffix == ".safetensors":
        read_header(path)
        state = load_file(path)
    elif path.suffix == ".pth":
        state = _unwrapped(path, _unpickled(path))
    else:
        raise ModelUnavailable(f"{path.name} cannot be used: only {' and '.join(SUFFIXES)} files are read")
    weights = {name: weight.float() for name, weight in state.items()}
    if not all(bool(weight.isfinite().all()) for weight in weights.values()):
        raise ModelUnavailable(
            f"{path.name} holds weights that are no finite numbers, which draw nothing; take another checkpoint"
        )
    return weights


def _unpickled(path: Path) -> object:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as exc:
        raise ModelUnavailable(
            f"{path.name} is damaged, or holds more than weights, which could run programs; take it in safetensors"
        ) from exc
    except Exception as exc:
        raise ModelUnavailable(f"{path.name} is damaged: {type(exc).__name__}; fetch it again") from exc


def _unwrapped(path: Path, content: object) -> State:
    if isinstance(content, dict):
        content = next((content[name] for name in INSIDE if name in content), content)
    if not isinstance(content, dict) or not all(isinstance(weight, Tensor) for weight in content.values()):
        raise ModelUnavailable(f"{path.name} holds something else than the weights of a network")
    return content


def network_of(state: State) -> Network:
    """The network that the weights are of, its sizes read off their shapes, with the weights in it.

    Raises:
        Unknown: they are of another one.
    """
    try:
        state = modern(state)
        with torch.device("meta"):  # nothing to draw at random: the weights replace it all
            network: Network = _rrdb(state) if "conv_first.weight" in state else _compact(state)
        network.load_state_dict(state, assign=True)
    except (LookupError, ValueError, ArithmeticError, RuntimeError) as exc:  # the last lists what differs
        raise Unknown("the weights are of an unknown network") from exc
    if network.scale < 1:
        raise Unknown("the weights are of a network that makes pictures smaller")
    return network.eval().requires_grad_(False)


def _rrdb(state: State) -> RRDBNet:
    features, channels = state["conv_first.weight"].shape[:2]
    return RRDBNet(
        features=features,
        growth=len(state["body.0.rdb1.conv1.weight"]),
        blocks=len({name.split(".")[1] for name in state if name.startswith("body.")}),
        doublings=len({name for name in state if re.fullmatch(r"conv_up\d+\.weight", name)}),
        unshuffle=math.isqrt(channels // COLOURS),
    )


def _compact(state: State) -> SRVGGNetCompact:
    last = max(int(name.split(".")[1]) for name in state if name.startswith("body."))
    if not (scale := math.isqrt(len(state[f"body.{last}.weight"]) // COLOURS)):
        raise Unknown("the weights are of a network that makes no colours")
    return SRVGGNetCompact(features=len(state["body.0.weight"]), convolutions=(last - 2) // 2, scale=scale)


def modern(state: State) -> State:
    """The weights under the names of Real-ESRGAN, where they have one of the two older sets of names.

    In the oldest, `model` lists all layers in their order: the first, the body, the doublings, and the last two.
    """
    if "model.0.weight" in state:
        numbers = sorted({int(name.split(".")[1]) for name in state if not name.startswith("model.1.")})
        doublings = {f"conv_up{n + 1}": at for n, at in enumerate(numbers[1:-2])}
        layers = {"conv_first": numbers[0], **doublings, "conv_hr": numbers[-2], "conv_last": numbers[-1]}
        names = {f"model.{at}": name for name, at in layers.items()}
        return {_modern_name(name, names): weight for name, weight in state.items()}
    for old, new in OLD_NAMES:
        state = {name.replace(old, new): weight for name, weight in state.items()}
    return state


def _modern_name(name: str, layers: dict[str, str]) -> str:
    if block := OLDEST_BLOCK.fullmatch(name):
        return "body.{}.rdb{}.conv{}.{}".format(*block.groups())
    layer, _, kind = name.rpartition(".")
    return f"{layers.get(layer, 'conv_body')}.{kind}"
