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


def check_allowed(source: ModelSource, file: Path) -> None:
    """Whether models.json allows a pickle of this model, and it is the file whose hash is named there.

    Raises:
        ModelUnavailable: it does not, or it is another.
    """
    _check_hash(file, source.options.get("pickles", {}).get(_name(source, file), ""))


def may_be_read(source: ModelSource, file: Path) -> bool:
    """Whether a file is no pickle, is the user's own, or is named in models.json; nothing is read for that."""
    return not _needs_leave(source, file) or _name(source, file) in source.options.get("pickles", {})


def check_of_the_hub(source: ModelSource, file: Path) -> None:
    """The same as `check_allowed`, for a file that is of the hub and a pickle; all others are passed over."""
    if _needs_leave(source, file):
        check_allowed(source, file)


def _needs_leave(source: ModelSource, file: Path) -> bool:
    return is_pickle(file.name) and _snapshot(source, file) is not None


def _snapshot(source: ModelSource, file: Path) -> Path | None:
    """The folder of a file's commit in a Hugging Face cache; None where it is the user's own."""
    return next((f for f in file.parents if f.parent.name == "snapshots" and f.name == source.revision), None)


def _name(source: ModelSource, file: Path) -> str:
    """What a file is called in models.json: by its path in its repository, or in the user's folder."""
    top = _snapshot(source, file) or (source.path if source.path.is_dir() else file.parent)
    return file.relative_to(top).as_posix()


def _check_hash(file: Path, sha256: str) -> None:
    name = f"{file.parent.name}/{file.name}"
    if not sha256:
        raise ModelUnavailable(
            f"{name} is a pickle that models.json does not allow; delete it, or name it under `pickles` of its "
            "entry, with the sha256 that its publisher gives",
            reason="pickles",
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
