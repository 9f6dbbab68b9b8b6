"""Pickled weights that models.json allows by their hash, checked again before anything reads them."""

import hashlib
import pickle
from pathlib import Path

from shared.errors import ModelUnavailable
from shared.models.wanted import is_pickle
from shared.schemas import ModelSource


def needed(source: ModelSource) -> list[Path]:
    """The pickles by which a checkpoint in parts is to be loaded: none where each of its networks has safetensors.

    Where there are some, they are all the pickles beside its networks, since the libraries choose by their own rules.

    Raises:
        ModelUnavailable: one is not allowed, or is another file than the allowed one.
    """
    allowed = source.options.get("pickles", {})
    networks = [config.parent for config in source.path.glob("*/config.json")]
    if not allowed or all(any(folder.glob("*.safetensors")) for folder in networks):
        return []
    files = sorted(f for folder in networks for f in folder.iterdir() if is_pickle(f.name))
    for file in files:
        _check_hash(file, allowed.get(file.relative_to(source.path).as_posix(), ""))
    return files


def _check_hash(file: Path, sha256: str) -> None:
    name = f"{file.parent.name}/{file.name}"
    if not sha256:
        raise ModelUnavailable(
            f"{name} is a pickle that models.json does not allow beside those it does; delete it", reason="pickles"
        )
    with file.open("rb") as opened:
        if hashlib.file_digest(opened, "sha256").hexdigest() != sha256.lower():
            raise ModelUnavailable(
                f"{name} is another pickle than the one that models.json allows: its sha256 differs", reason="pickles"
            )


def check_content(file: Path) -> None:
    """Whether a pickle holds tensors only; calls nothing that it names.

    Raises:
        ModelUnavailable: reading it would run code, or it is damaged.
    """
    import torch

    try:
        torch.load(file, map_location="meta", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as exc:
        raise ModelUnavailable(
            f"{file.parent.name}/{file.name} is not read, though its hash is allowed: it is damaged, or holds more "
            "than tensors and would run code; take the model in safetensors",
            reason="pickles",
        ) from exc
