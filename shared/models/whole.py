"""Whether a folder holds all that a model needs, by the names in it."""

import json
import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from shared.models.walk import files_below
from shared.models.wanted import TEXTS, parts_of

SHARD = re.compile(r"-\d{5}-of-\d{5}\.safetensors$")


def is_whole(folder: Path, files: Sequence[str] = (), pickles: Collection[str] = ()) -> bool:
    """Whether no file that the model needs is missing; `pickles` are those that may stand for safetensors."""
    if files:
        return all((folder / part).is_file() for part in parts_of(files[0]))
    if not (folder / "model_index.json").exists():
        found = [*folder.glob("*.gguf"), *folder.glob("*.safetensors"), *(folder / name for name in pickles)]
        return bool(found) and all((folder / part).is_file() for f in found for part in parts_of(f.name))
    return _is_whole_checkpoint(folder, pickles)


def _is_whole_checkpoint(folder: Path, pickles: Collection[str]) -> bool:
    """Whether every component that a diffusers folder names can be loaded: no part, weight or shard is missing."""
    parts = _parts(folder)
    pickled = {(folder / name).parent for name in pickles if (folder / name).is_file()}
    whole = bool(parts) and all(p in pickled or _part_is_whole(p) for p in parts)
    return whole and all(f.exists() for f in files_below(folder))


def needed_files(folder: Path, names: Iterable[str]) -> list[str]:
    """Of these files of a folder, those that a model in parts is read from: its components', and the texts beside.

    Of a folder that holds no such model, all.
    """
    parts = [f"{part.name}/" for part in _parts(folder)]
    if not parts:
        return list(names)
    return [n for n in names if n.startswith(tuple(parts)) or ("/" not in n and n.endswith(TEXTS))]


def has_configuration(folder: Path) -> bool:
    """Whether every component that a diffusers folder names has its texts; the weights may be missing."""
    parts = _parts(folder)
    return bool(parts) and all(any(file.is_file() for file in part.glob("*.json")) for part in parts)


def _parts(folder: Path) -> list[Path]:
    """The folders of the components that model_index.json names; none where it cannot be read."""
    try:
        index = json.loads((folder / "model_index.json").read_text())
    except (OSError, ValueError):
        return []
    return [folder / k for k, v in index.items() if isinstance(v, list) and v[0]]


def _part_is_whole(part: Path) -> bool:
    names = {f.name for f in part.glob("*")}
    if "config.json" not in names:  # a scheduler, tokenizer or image processor
        return any(n.endswith(".json") for n in names)
    if any(n.endswith(".safetensors") and not SHARD.search(n) for n in names):
        return True
    return any(_shards(index) <= names for index in part.glob("*.safetensors.index*.json"))


def _shards(index: Path) -> set[str]:
    try:
        return set(json.loads(index.read_text())["weight_map"].values())
    except (OSError, ValueError, KeyError):
        return {"a list that can be read"}
