"""Which files of a repository are worth downloading, and which are refused."""

import re
from collections.abc import Mapping, Sequence

from shared.errors import ModelUnavailable
from shared.models.hub import Listing
from shared.models.single_file import INDEX, is_configuration_file

TEXTS = (".json", ".txt", ".model", ".jinja")
PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
NO_PICKLES = re.compile(r"(^|/)(openvino_|flax_|tf_)")  # other tools' weights, whose names end alike
GGUF_PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")


def wanted(listing: Listing, files: Sequence[str], pickles: Mapping[str, str]) -> Listing:
    """The part of a repository to download: the one model named, or what diffusers reads of it.

    Args: `files` names one of several models; `pickles` are the pickles that are allowed, by name, with their sha256.

    Raises:
        ModelUnavailable: it has none that can be used, only pickles, or several of which none is named.
    """
    names = listing.names()
    allowed = _allowed(listing, pickles)
    refused = [n for n in _only_pickled(names, files) if n not in allowed]
    if refused:
        raise ModelUnavailable(
            f"'{listing.model_id}' offers {', '.join(refused[:3])} only as pickles, which run code when they are "
            "read; take a model in safetensors, or allow the file by its sha256 under `pickles` in models.json",
            reason="pickles",
        )
    chosen = gguf_files(listing.model_id, files, names) or wanted_files(names)
    if INDEX in names and any(n.endswith(".safetensors") for n in files):
        chosen += [n for n in names if is_configuration_file(n)]  # beside a single file, and all that it needs
    if not any(n.endswith((".safetensors", ".gguf")) for n in chosen) and not allowed:
        single = [f"{listing.model_id}/{n}" for n in names if n.endswith(".safetensors")]
        hint = f"; name one of its files: {', '.join(single[:8])}" if single else ""
        raise ModelUnavailable(
            f"'{listing.model_id}' is neither a diffusers checkpoint in safetensors nor a GGUF{hint}", reason="format"
        )
    return listing.only([*chosen, *allowed])


def _allowed(listing: Listing, pickles: Mapping[str, str]) -> list[str]:
    remotes = {file.name: file for file in listing.files}
    there = [name for name in pickles if name in remotes]
    for name in there:
        if remotes[name].sha256 != pickles[name].lower():
            raise ModelUnavailable(
                f"'{listing.model_id}' has another {name} than the one that models.json allows: its sha256 differs",
                reason="pickles",
            )
    return there


def _only_pickled(names: Sequence[str], files: Sequence[str]) -> list[str]:
    """The pickles without which the model, or a component of it, has no weights."""
    if files:
        return [n for n in files if n.endswith(PICKLES)]
    if any(n.endswith(".gguf") for n in names) and INDEX not in names:
        return []
    safe = {_folder(n) for n in names if n.endswith(".safetensors")}
    components = {_folder(n) for n in names if n.endswith("/config.json")} if INDEX in names else {""}
    return [n for n in names if is_pickle(n) and _folder(n) in components - safe]


def _folder(name: str) -> str:
    return name.rpartition("/")[0]


def is_pickle(name: str) -> bool:
    """Whether a file is of weights that torch reads by running what they say."""
    return name.endswith(PICKLES) and not NO_PICKLES.search(name)


def gguf_files(model_id: str, files: Sequence[str], names: Sequence[str]) -> list[str]:
    """The files to download of a repository that holds models in one file each: the one named, in all its parts.

    Raises:
        ModelUnavailable: the one named, or a part of it, is not there; or none is named and there are several.
    """
    if len(files) > 1:
        raise ModelUnavailable(
            f"'{model_id}' is one model in one file, and `files` names {len(files)}: {', '.join(files[:8])}; keep "
            "one, and of a file in parts the first"
        )
    kind = "safetensors" if files and files[0].endswith(".safetensors") else "GGUF"
    offered = [n for n in names if n.endswith(f".{kind.lower()}")]
    if not files and (INDEX in names or not offered):
        return []
    first = [n for n in offered if not (part := GGUF_PART.search(n)) or int(part[1]) == 1]
    chosen = list(files) or first
    if len(chosen) > 1 or not set(chosen) <= set(names):
        asked = f"has no {', '.join(files)}" if files else "has several models; name one in GGML_FILE"
        raise ModelUnavailable(f"'{model_id}' {asked}; it has: {', '.join(first[:20]) or f'no {kind} file'}")
    parts = parts_of(chosen[0])
    if missing := [n for n in parts if n not in names]:
        raise ModelUnavailable(
            f"'{model_id}' is not whole on the hub: it has no {', '.join(missing[:8])}, a part of {chosen[0]}"
        )
    return parts


def parts_of(file: str) -> list[str]:
    """The names of all parts of a GGUF file, from that of its first; the file alone where it is in one."""
    part = GGUF_PART.search(file)
    if part is None:
        return [file]
    return [f"{file[: part.start()]}-{n:05d}-of-{part[2]}.gguf" for n in range(1, int(part[2]) + 1)]


def wanted_files(names: Sequence[str]) -> list[str]:
    """The files of a diffusers repository that are worth downloading.

    Texts and, folder by folder, one copy of the weights: half-precision safetensors where there are any, else full
    precision. Never pickles, ONNX, or the single-file checkpoints beside the folders.
    """
    kept = [n for n in names if n.endswith(TEXTS)]
    folders = {n.rpartition("/")[0] for n in names if n.endswith(".safetensors")} - {""}
    for folder in sorted(folders):
        here = [n for n in names if n.rpartition("/")[0] == folder and n.endswith(".safetensors")]
        weights = [n for n in here if "non_ema" not in n]
        kept += [n for n in weights if ".fp16" in n] or weights
    return kept
