"""Reads the weights out of a TorchScript archive, and runs nothing of what is in it.

The archive is a zip: `data.pkl` holds the module's attributes, `data/N` the values of its tensors. The pickle is read
by an unpickler that knows tensors, lists and holders of attributes; anything else is refused. The format: pytorch's
torch/csrc/jit/docs/serialization.md.
"""

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from shared.errors import ModelUnavailable

if TYPE_CHECKING:
    from torch import Tensor

LARGEST_PICKLE = 16 * 2**20  # bytes; the published FILM has 0.05 MB
MODULES = "__torch__"  # what the names of an archive's own classes begin with
# By the name of the storage class: torch's name of the type, and bytes of a value.
STORAGES = {"HalfStorage": ("float16", 2), "BFloat16Storage": ("bfloat16", 2), "FloatStorage": ("float32", 4)}
STORAGES |= {"DoubleStorage": ("float64", 8), "LongStorage": ("int64", 8), "IntStorage": ("int32", 4)}
TAGGED = ("restore_type_tag", "build_intlist", "build_doublelist", "build_boollist")  # of torch.jit._pickle


class Storage(NamedTuple):
    """A run of values of one type: its file's name in the archive, and how many there are."""

    kind: str
    key: str
    values: int


class Stored(NamedTuple):
    """A tensor that still lies in the archive."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]


class Holder:
    """An object of a class of the archive: its attributes, and nothing of what it does."""

    def __init__(self) -> None:
        self.attributes: dict[str, Any] = {}

    def __setstate__(self, attributes: Any) -> None:
        if type(attributes) is not dict or not all(type(name) is str for name in attributes):
            raise pickle.UnpicklingError("the attributes of a module are no attributes")
        self.attributes = attributes


class Call:
    """A function that the pickle may call; without attributes, so that the pickle cannot change it."""

    __slots__ = ("_does",)
    _does: Callable[..., Any]

    def __init__(self, does: Callable[..., Any]) -> None:
        object.__setattr__(self, "_does", does)

    def __call__(self, *given: Any) -> Any:
        return self._does(*given)

    def __setattr__(self, name: str, value: object) -> None:
        raise pickle.UnpicklingError("it changes a function")


class Reader(pickle.Unpickler):
    """Builds holders, plain values and `Stored` tensors, whatever the pickle asks for."""

    def find_class(self, module: str, name: str) -> Any:
        """What stands for a name in the pickle.

        Raises:
            UnpicklingError: it is none of those that weights are made of.
        """
        if module == MODULES or module.startswith(f"{MODULES}."):
            return type("Module", (Holder,), {})  # of its own, so that nothing done to it outlives the reading
        if module == "torch" and name in STORAGES:
            return name
        if module == "torch._utils" and name == "_rebuild_tensor_v2":
            return Call(_stored)
        if module == "torch.jit._pickle" and name in TAGGED:
            return Call(lambda value, *tag: value)
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        raise pickle.UnpicklingError(f"it asks for {module:.60}.{name:.60}, which no weights are made of")

    def persistent_load(self, saved: Any) -> Storage:
        """A tensor's values, by what the pickle says of them."""
        what, kind, key, _, count = saved
        if what != "storage" or kind not in STORAGES or not str(key).isdecimal() or type(count) is not int:
            raise pickle.UnpicklingError("it names values in a way that torch does not")
        return Storage(kind, str(key), count)


def _stored(storage: Any, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any) -> Stored:
    if not isinstance(storage, Storage) or not all(type(n) is int and n >= 0 for n in (offset, *shape)):
        raise pickle.UnpicklingError("it builds a tensor of something else")
    if any(size > 1 and stride != prod(shape[n + 1 :]) for n, (size, stride) in enumerate(_zip(shape, strides))):
        raise pickle.UnpicklingError("a tensor's values are not one after the other")
    if offset + prod(shape) > storage.values:
        raise pickle.UnpicklingError("a tensor is larger than its values")
    return Stored(storage, offset, tuple(shape))


def _zip(shape: tuple[int, ...], strides: tuple[int, ...]) -> list[tuple[int, int]]:
    return list(zip(shape, strides, strict=True))


def is_archive(path: Path) -> bool:
    """Whether a file is a TorchScript archive: torch's plain pickles are zips too, but hold no code."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def read_archive(path: Path) -> "dict[str, Tensor]":
    """The parameters and buffers of an archive's module, by their names in its state dict.

    Raises:
        ModelUnavailable: the file is damaged, or asks for more than tensors.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            root = next(n for n in archive.namelist() if n.endswith("/data.pkl")).removesuffix("data.pkl")
            with archive.open(_member(archive, f"{root}data.pkl", LARGEST_PICKLE)) as file:
                module = Reader(file).load()
            return {name: _tensor(archive, root, stored) for name, stored in _tensors(module, "", set())}
    except Exception as exc:
        raise ModelUnavailable(f"{path.name} cannot be read as weights: {exc or type(exc).__name__}") from exc


def _member(archive: zipfile.ZipFile, name: str, largest: int) -> zipfile.ZipInfo:
    member = archive.getinfo(name)
    if member.compress_type != zipfile.ZIP_STORED or member.file_size > largest:
        raise pickle.UnpicklingError(f"{name[-40:]} is compressed or too large; torch stores it as it is")
    return member


def _tensors(module: Any, prefix: str, seen: set[int]) -> Iterator[tuple[str, Stored]]:
    if not isinstance(module, Holder) or id(module) in seen:
        raise pickle.UnpicklingError("its modules are no tree")
    seen.add(id(module))
    for name, value in module.attributes.items():
        if isinstance(value, Stored):
            yield f"{prefix}{name}", value
        elif isinstance(value, Holder):
            yield from _tensors(value, f"{prefix}{name}.", seen)


def _tensor(archive: zipfile.ZipFile, root: str, stored: Stored) -> "Tensor":
    import torch

    kind, size = STORAGES[stored.storage.kind]
    name = f"{root}data/{stored.storage.key}"
    with archive.open(_member(archive, name, stored.storage.values * size)) as file:
        file.seek(stored.offset * size)
        values = bytearray(file.read(prod(stored.shape) * size))
    return torch.frombuffer(values, dtype=getattr(torch, kind)).reshape(stored.shape)
