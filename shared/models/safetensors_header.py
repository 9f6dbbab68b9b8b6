"""Reads the header of a safetensors file, and tells a whole file from a damaged one; the weights stay unread.

The format: github.com/huggingface/safetensors, README, "Format".
"""

import json
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from shared.errors import ModelUnavailable

LARGEST_HEADER = 100_000_000  # bytes; the library refuses more
BITS = {"BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6}
BITS |= {"U16": 16, "I16": 16, "F16": 16, "BF16": 16, "U32": 32, "I32": 32, "F32": 32}
BITS |= {"F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "U64": 64, "I64": 64, "F64": 64, "C64": 64}


class Tensor(NamedTuple):
    """What the header says of one tensor; `begin` and `end` are bytes after the header."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def read_header(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name; reads nothing else.

    Raises:
        ModelUnavailable: the file is missing, cut off or damaged; it is named, with what is wrong in it.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(size - 8, LARGEST_HEADER):
                _refuse(path, f"it has {size:,} bytes, and its header would have {length:,}")
            tensors = _parsed(path, file.read(length))
    except OSError as exc:
        raise ModelUnavailable(f"{_name(path)} cannot be read: {exc.strerror or exc}") from exc
    _check_places(path, tensors, size - 8 - length)
    return tensors


def check_folder(folder: Path) -> None:
    """Check every weights file of a checkpoint in parts.

    Raises:
        ModelUnavailable: naming the first that is damaged.
    """
    for file in sorted(folder.glob("*/*.safetensors")):
        read_header(file)


def _parsed(path: Path, header: bytes) -> dict[str, Tensor]:
    try:
        listed: dict[str, Any] = json.loads(header)
        listed.pop("__metadata__", None)
        return {name: _tensor(entry) for name, entry in listed.items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        _refuse(path, "its header is not a list of tensors")


def _tensor(entry: dict[str, Any]) -> Tensor:
    begin, end = entry["data_offsets"]
    shape = tuple(entry["shape"])
    if not all(type(n) is int and n >= 0 for n in (begin, end, *shape)):
        raise ValueError("sizes are whole numbers")
    return Tensor(str(entry["dtype"]), shape, begin, end)


def _check_places(path: Path, tensors: dict[str, Tensor], data: int) -> None:
    """Each tensor is as long as its shape says, one follows the other, and the file ends with the last."""
    for name, tensor in tensors.items():
        if tensor.dtype not in BITS:
            _refuse(path, f"the tensor {name:.80} is of no known type")
        if (tensor.end - tensor.begin) * 8 != prod(tensor.shape) * BITS[tensor.dtype]:
            _refuse(path, f"the tensor {name:.80} is not as long as its shape")
    placed = sorted((t.begin, t.end) for t in tensors.values())
    if any(left[1] != right[0] for left, right in pairwise([(0, 0), *placed])):
        _refuse(path, "its tensors overlap or leave gaps")
    end = placed[-1][1] if placed else 0
    if end != data:
        _refuse(path, f"it has {data:,} bytes of weights, and its header lists {end:,}")


def _refuse(path: Path, reason: str) -> NoReturn:
    raise ModelUnavailable(f"{_name(path)} is damaged: {reason}; fetch it again")


def _name(path: Path) -> str:
    """The file within its checkpoint: `unet/model.safetensors`, not where models lie on this machine."""
    return f"{path.parent.name}/{path.name}"
