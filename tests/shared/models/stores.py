"""Stores on folders that tests fill, and the models that they are asked for."""

from pathlib import Path

from shared.models.catalog import Entry
from shared.models.store import Store
from shared.models.transfer import Transfer
from tests.shared.models.tiny_gguf import ARCHITECTURE, header

MODEL = "Ours/Small-Model"
OLD, NEW, NEWEST = "1" * 40, "2" * 40, "3" * 40
NOWHERE = "http://127.0.0.1:9"  # discard: nobody listens
TEXT = "Ours/Text-GGUF"
PARTS = [f"big-0000{n}-of-00002.gguf" for n in (1, 2)]
QUANTISED: dict[str, bytes] = {
    "README.md": b"# Text",
    "config.json": b"{}",
    "small-q4.gguf": header(ARCHITECTURE) + b"four",
    "small-q8.gguf": header(ARCHITECTURE) + b"eight",
    **{name: header(ARCHITECTURE) + name.encode() for name in PARTS},
}


def entry(model_id: str = MODEL, revision: str = "main") -> Entry:
    return Entry(pipeline="text-to-image", model_id=model_id, revision=revision)


def store(*roots: Path, hub_url: str = NOWHERE) -> Store:
    """A store that reads these folders first, and downloads into the first one."""
    return Store(roots[0], volumes=roots[1:], hub_url=hub_url)


def never(moment: Transfer) -> None:
    raise AssertionError("nothing was to be downloaded")


def text_entry(model_id: str = TEXT, *files: str, revision: str = "main", **options: int) -> Entry:
    return Entry(
        pipeline="text-generation", model_id=model_id, revision=revision, files=tuple(files), options=dict(options)
    )
