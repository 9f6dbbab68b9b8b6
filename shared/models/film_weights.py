"""Finds and reads the weights of FILM: safetensors, or the file that its port to PyTorch published."""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

from shared.errors import ModelUnavailable
from shared.models import pickles
from shared.models.safetensors_header import read_header
from shared.models.torchscript_archive import is_archive, read_archive
from shared.schemas import ModelSource

if TYPE_CHECKING:
    from torch import Tensor

    from shared.models.film import FILM

CONFIG = "config.json"
SUFFIXES = (".safetensors", ".pt")
OTHER_NAME = re.compile(r"\.conv\.(weight|bias)$")  # of a convolution, in ComfyUI's copy of the published weights
PUBLISHED_LEVELS = 7  # of the published network, which comes without a configuration
MOST_LEVELS = 12  # sides are padded to a multiple of 2 ** (levels - 1)


def load(source: ModelSource) -> "FILM":
    """The network with its weights, on the CPU, in the precision of the file.

    A pickle is read only where the catalog's entry allows it by its hash, in `options["pickles"]`.

    Raises:
        ModelUnavailable: there are no weights, or of something else; levels that cannot be; or a pickle that nobody
            allowed.
    """
    import torch

    from shared.models.film import FILM, Sizes

    file = _file(source)
    read = _read(source, file)
    state = {OTHER_NAME.sub(r".0.\1", name): weight for name, weight in read.items()}
    levels = _pyramid_levels(file)
    try:
        sizes = Sizes.of(state, levels)
        _check_levels(levels, sizes.fusion_levels)
        with torch.device("meta"):
            film = FILM(sizes)
        film.load_state_dict(state, assign=True)
    except (KeyError, ValueError, RuntimeError) as exc:
        raise ModelUnavailable(f"{file.name} holds weights, but not of FILM") from exc
    return film.eval().requires_grad_(False)


def _file(source: ModelSource) -> Path:
    """The one file of weights that there is, safetensors before others."""
    if source.path.is_file():
        return source.path
    for suffix in SUFFIXES:
        if found := sorted(source.path.glob(f"*{suffix}")):
            if len(found) == 1:
                return found[0]
            raise ModelUnavailable(
                f"'{source.model_id}' has several files of weights ({', '.join(f.name for f in found[:4])}); "
                "name one under `files` in models.json"
            )
    raise ModelUnavailable(f"'{source.model_id}' has no file of weights; it needs a .safetensors or a .pt")


def _pyramid_levels(file: Path) -> int:
    config = file.with_name(CONFIG)
    if not config.is_file():
        return PUBLISHED_LEVELS
    try:
        return int(json.loads(config.read_text())["pyramid_levels"])
    except (ValueError, KeyError, TypeError, OverflowError) as exc:
        raise ModelUnavailable(f"{CONFIG} beside {file.name} does not say `pyramid_levels`, a whole number") from exc


def _check_levels(levels: int, fused: int) -> None:
    if not fused <= levels <= MOST_LEVELS:
        raise ModelUnavailable(
            f"{CONFIG} says {levels} `pyramid_levels`; for these weights they are between {fused} and {MOST_LEVELS}"
        )


def _read(source: ModelSource, file: Path) -> "dict[str, Tensor]":
    if file.suffix == ".safetensors":
        from safetensors.torch import load_file

        read_header(file)  # names what is wrong with a damaged file
        return load_file(file)
    pickles.check_allowed(source, file)
    return read_archive(file) if is_archive(file) else _read_state_dict(file)


def _read_state_dict(file: Path) -> "dict[str, Tensor]":
    import torch

    try:
        state: dict[str, Tensor] = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as exc:
        raise ModelUnavailable(f"{file.name} cannot be read as a state dict: {type(exc).__name__}") from exc
    if not isinstance(state, dict):
        raise ModelUnavailable(f"{file.name} holds no state dict")
    return state
