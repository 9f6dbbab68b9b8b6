"""Finds and reads the weights of FILM: safetensors, or the file that its port to PyTorch published."""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from shared.errors import ModelUnavailable
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


def load(source: ModelSource) -> "FILM":
    """The network with its weights, on the CPU, in the precision of the file.

    A pickle is read only where the catalog's entry allows it by its hash, in `options["pickles"]`.

    Raises:
        ModelUnavailable: there are no weights, or of something else; or a pickle that nobody allowed.
    """
    import torch

    from shared.models.film import FILM, Sizes

    file = _file(source)
    read = _read(file, source.options.get("pickles", {}))
    state = {OTHER_NAME.sub(r".0.\1", name): weight for name, weight in read.items()}
    try:
        with torch.device("meta"):
            film = FILM(Sizes.of(state, _pyramid_levels(file)))
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
    except (ValueError, KeyError, TypeError) as exc:
        raise ModelUnavailable(f"{CONFIG} beside {file.name} does not say `pyramid_levels`, a whole number") from exc


def _read(file: Path, pickles: Mapping[str, str]) -> "dict[str, Tensor]":
    if file.suffix == ".safetensors":
        from safetensors.torch import load_file

        read_header(file)  # names what is wrong with a damaged file
        return load_file(file)
    _check_allowed(file, pickles)
    return read_archive(file) if is_archive(file) else _read_state_dict(file)


def _check_allowed(file: Path, pickles: Mapping[str, str]) -> None:
    with file.open("rb") as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest()
    if file.name not in pickles:
        raise ModelUnavailable(
            f"{file.name} is a pickle that models.json does not allow; name it under `pickles` of its entry, with "
            "the sha256 that its publisher gives"
        )
    if pickles[file.name].lower() != found:
        raise ModelUnavailable(f"{file.name} is not the file that models.json allows: its sha256 differs")


def _read_state_dict(file: Path) -> "dict[str, Tensor]":
    import torch

    try:
        state: dict[str, Tensor] = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as exc:
        raise ModelUnavailable(f"{file.name} cannot be read as a state dict: {type(exc).__name__}") from exc
    if not isinstance(state, dict):
        raise ModelUnavailable(f"{file.name} holds no state dict")
    return state
