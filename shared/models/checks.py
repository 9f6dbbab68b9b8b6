"""Whether a file of a model is what the hub has: its size, its hash and its header."""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from shared.errors import ModelUnavailable
from shared.models import gguf_header, safetensors_header
from shared.models.hub import Remote

BLOCK = 8 * 2**20
FIRST_PART = "-00001-of-"


@dataclass(frozen=True)
class Record:
    """A file as it was when it had been checked."""

    size: int
    sha256: str


class Damaged(Exception):
    """A file is not what it should be."""

    def __init__(self, name: str, what: str) -> None:
        super().__init__(f"{name} {what}")
        self.name = name
        self.what = what


def check_file(path: Path, remote: Remote, *, between: Callable[[], None] = lambda: None) -> Record:
    """What the file is, once its size and hash are found to be those on the hub, and it is on the disk for good.

    `between` is called between blocks, and may raise.

    Raises:
        Damaged: it is another file.
    """
    size = path.stat().st_size
    if remote.size is not None and size != remote.size:
        raise Damaged(remote.name, f"has {size:,} bytes and should have {remote.size:,}")
    sha256, git = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % size)  # noqa: S324 git's own hash
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            sha256.update(block)
            if remote.git_sha1 is not None:
                git.update(block)
            between()
        os.fsync(file.fileno())
    if remote.sha256 is not None and sha256.hexdigest() != remote.sha256:
        raise Damaged(remote.name, "has the right size and the wrong sha256")
    if remote.git_sha1 is not None and git.hexdigest() != remote.git_sha1:
        raise Damaged(remote.name, "has the right size and the wrong content")
    return Record(size, sha256.hexdigest())


def check_header(path: Path, name: str) -> None:
    """Whether the header of a safetensors or GGUF file can be read, and fits the file; other files have none.

    Raises:
        Damaged: it cannot.
    """
    try:
        if name.endswith(".safetensors"):
            safetensors_header.read_header(path)
        elif name.endswith(".gguf"):
            gguf_header.read_header(path, first=FIRST_PART in name or "-of-" not in name)
    except ModelUnavailable as exc:
        raise Damaged(name, f"cannot be read: {exc.message}") from exc
