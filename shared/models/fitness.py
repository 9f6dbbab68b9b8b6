"""Which models on the volumes are damaged, by the headers of their files; imports no torch, and reads no weights."""

from collections.abc import Iterator
from dataclasses import dataclass

from shared.errors import ModelUnavailable
from shared.models import gguf, safetensors_header
from shared.models.catalog import TEXT_GENERATION, Catalog, Entry
from shared.models.store import Store
from shared.schemas import ModelSource


@dataclass(frozen=True)
class Unfit:
    """A model that no job could be run with; the `error` names the file and what is wrong with it."""

    entry: Entry
    is_default: bool  # what a job gets that names no model
    error: ModelUnavailable


def unfit(store: Store, catalog: Catalog) -> Iterator[Unfit]:
    """The damaged ones of a catalog's models, of those that are here; the warm ones are left to who loads them.

    Some milliseconds a checkpoint; half a second for a GGUF with a vocabulary of 150,000 tokens.
    """
    for entry in catalog.local:
        source = None if entry.warm else store.find(entry)
        try:
            if source:
                _check(entry, source)
        except ModelUnavailable as exc:
            yield Unfit(entry, catalog.resolve(entry.pipeline, None) is entry, exc)


def _check(entry: Entry, source: ModelSource) -> None:
    path = source.path
    if entry.pipeline == TEXT_GENERATION or path.suffix == ".gguf":
        gguf.checked(path)
    elif path.is_dir():
        safetensors_header.check_folder(path)
    elif path.suffix == ".safetensors":
        safetensors_header.read_header(path)
