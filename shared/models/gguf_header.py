"""Reads the header of a GGUF file, so that a damaged one is named before llama.cpp sees it."""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from shared.errors import ModelUnavailable

MAGIC = b"GGUF"
BEFORE_GGUF = (b"lmgg", b"fmgg", b"tjgg", b"algg")  # ggml, ggmf, ggjt, ggla: 32-bit numbers, little-endian
VERSIONS = (2, 3)
MAX_HEADER = 512 * 2**20  # bytes; the largest vocabularies take some 20 MB
LONGEST_KEPT = 64  # values of an array that are kept: for most only the length is of use
MOST_DIMENSIONS = 4
NO_WEIGHTS = (9, 15, 24, 25, 27, 28)  # kinds of tensors that llama.cpp computes with, but cannot multiply by
INTEGERS, TABLE = 26, "tid2eid"  # and the one kind of which there are tables, which no other weights are of
NUMBERS = dict(enumerate(("<B", "<b", "<H", "<h", "<I", "<i", "<f", "<?")))
NUMBERS |= {10: "<Q", 11: "<q", 12: "<d"}
STRING, ARRAY = 8, 9
TOKENS = "tokenizer.ggml.tokens"  # llama.cpp ends the process where two are the same

# Values that llama.cpp takes for granted: beyond these bounds it does not refuse a file, it ends the process.
BOUNDS = {
    "context_length": (16, 2**31 - 1),
    "block_count": (1, 512),
    "attention.layer_norm_epsilon": (0, 1),
    "attention.layer_norm_rms_epsilon": (0, 1),
}


@dataclass(frozen=True)
class Header:
    """The metadata of a GGUF file: github.com/ggml-org/ggml, docs/gguf.md.

    Arrays are lists of at most 64 values; `lengths` has how long they are.
    """

    values: dict[str, Any]
    lengths: dict[str, int]

    def of_model(self, name: str, default: Any = None) -> Any:
        """A value below the architecture's own prefix, such as `context_length`."""
        return self.values.get(f"{self.values.get('general.architecture')}.{name}", default)

    def kv_bytes(self, context: int) -> int:
        """Bytes that keys and values of `context` tokens take in half precision; 0 where the header does not tell.

        Two tensors a layer, of `head_count_kv` heads each; an upper bound for layers that look back less far.
        """
        layers, width = self.of_model("block_count", 0), self.of_model("embedding_length", 0)
        heads = self.of_model("attention.head_count") or 1
        kv_heads = self.of_model("attention.head_count_kv", heads)
        kv_heads = max(kv_heads, default=0) if isinstance(kv_heads, list) else kv_heads
        if not all(isinstance(n, int) for n in (layers, width, heads, kv_heads)):
            return 0
        head = width // heads
        key, value = (self.of_model(f"attention.{part}_length", head) for part in ("key", "value"))
        if not isinstance(key, int) or not isinstance(value, int):
            return 0
        return max(0, int(2 * layers * kv_heads * (key + value) * context))


def read_header(path: Path, *, first: bool = True) -> Header:
    """The header of the file; one that is not the `first` part of a model holds little but its tensors.

    Raises:
        ModelUnavailable: naming the file and what is wrong with it.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            return _Reader(file, size).header(first)
    except _Damaged as exc:
        raise ModelUnavailable(f"{path.name}: {exc}") from exc
    except OSError as exc:
        raise ModelUnavailable(f"{path.name} cannot be read: {exc.strerror}") from exc


class _Damaged(ValueError):
    """What is wrong with a file."""


class _Reader:
    """A file, read from its start; nothing is believed that could not be in a file of that size."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._size = size

    def header(self, first: bool) -> Header:
        self._check_magic()
        version = self._number("<I")
        if version not in VERSIONS:
            swapped = int.from_bytes(struct.pack("<I", version), "big") in VERSIONS
            raise _Damaged("big-endian, which is not read here" if swapped else f"GGUF version {version} is unknown")
        tensors, pairs = self._count("<Q", 24, "tensors"), self._count("<Q", 13, "metadata pairs")
        values: dict[str, Any] = {}
        lengths: dict[str, int] = {}
        for _ in range(pairs):
            key = self._string()
            values[key], lengths[key] = self._value(self._number("<I"), distinct=key == TOKENS)
        if first and not isinstance(values.get("general.architecture"), str):
            raise _Damaged("the header names no architecture")
        self._check_tensors(tensors, values.get("general.alignment", 32))
        header = Header(values, lengths)
        _check_bounds(header)
        return header

    def _check_magic(self) -> None:
        magic = self._file.read(4)
        if magic in BEFORE_GGUF:
            raise _Damaged(
                "a GGML file from before GGUF (August 2023), which llama.cpp reads no more; name a .gguf file of the "
                "model, or convert this one with llama.cpp's convert_llama_ggml_to_gguf.py"
            )
        if magic != MAGIC:
            raise _Damaged("not a GGUF file: it does not start with the letters GGUF")

    def _check_tensors(self, count: int, alignment: Any) -> None:
        """Whether the file goes as far as the tensors that it lists begin; llama.cpp checks where they end."""
        starts = [self._tensor() for _ in range(count)]
        if not isinstance(alignment, int) or alignment <= 0 or alignment & (alignment - 1):
            raise _Damaged(f"an alignment of {alignment} is none")
        data = -(-self._file.tell() // alignment) * alignment
        if starts and data + max(starts) >= self._size:
            raise _Damaged(
                f"truncated: {self._size} bytes long, and a tensor begins at {data + max(starts)}; download it again"
            )

    def _tensor(self) -> int:
        name = self._string()
        dimensions = self._number("<I")
        if not 0 < dimensions <= MOST_DIMENSIONS:
            raise _Damaged(f"a tensor of {dimensions} dimensions")
        self._skip(8 * dimensions)
        kind = self._number("<I")
        if kind in NO_WEIGHTS or (kind == INTEGERS and name.endswith(".weight") and TABLE not in name):
            raise _Damaged(f"a tensor of the kind {kind}, of which no weights are")
        return int(self._number("<Q"))

    def _value(self, kind: int, *, distinct: bool) -> tuple[Any, int]:
        if kind == STRING:
            return self._string(), 1
        if kind == ARRAY:
            return self._array(distinct=distinct)
        if kind not in NUMBERS:
            raise _Damaged(f"a value of the unknown kind {kind}")
        return self._number(NUMBERS[kind]), 1

    def _array(self, *, distinct: bool) -> tuple[list[Any], int]:
        kind = self._number("<I")
        if kind == STRING:
            count = self._count("<Q", 8, "strings")
            return self._strings(count, distinct=distinct), count
        if kind not in NUMBERS:
            raise _Damaged(f"an array of the unknown kind {kind}")
        width = struct.calcsize(NUMBERS[kind])
        count = self._count("<Q", width, "values")
        kept = [self._number(NUMBERS[kind]) for _ in range(min(count, LONGEST_KEPT))]
        self._skip((count - len(kept)) * width)
        return kept, count

    def _strings(self, count: int, *, distinct: bool) -> list[str]:
        kept: list[str] = []
        seen: set[bytes] = set()
        most = min(self._size, MAX_HEADER)
        for n in range(count):  # hundreds of thousands: as little as can be for each
            length = int.from_bytes(self._read(8), "little")
            if length > most:
                raise _Damaged(f"damaged or truncated: the header announces {length} bytes")
            data = self._read(length)
            if n < LONGEST_KEPT:
                kept.append(data.decode(errors="replace"))
            token = data.partition(b"\0")[0]  # as C reads it
            if distinct and token in seen:
                raise _Damaged(f"damaged: token {n} is another one's twin")
            if distinct and token:  # llama.cpp gives those without text names of their own
                seen.add(token)
        return kept

    def _string(self) -> str:
        return self._read(self._count("<Q", 1, "bytes")).decode(errors="replace")

    def _count(self, code: str, each: int, what: str) -> int:
        """A number of things of at least `each` bytes, if there is room for them in the file."""
        count = int(self._number(code))
        if count * each > min(self._size - self._file.tell(), MAX_HEADER):
            raise _Damaged(f"damaged or truncated: the header announces {count} {what}")
        return count

    def _number(self, code: str) -> Any:
        (value,) = struct.unpack(code, self._read(struct.calcsize(code)))
        return value

    def _read(self, length: int) -> bytes:
        data = self._file.read(length)
        if len(data) < length:
            raise _Damaged(f"truncated: it ends within its header, after {self._size} bytes")
        return data

    def _skip(self, length: int) -> None:
        self._file.seek(length, 1)


def _check_bounds(header: Header) -> None:
    for name, (least, most) in BOUNDS.items():
        value = header.of_model(name)
        if value is not None and not (isinstance(value, int | float) and least <= value <= most):
            raise _Damaged(f"{name} is {str(value)[:40]}, and must be a number from {least} to {most}")
