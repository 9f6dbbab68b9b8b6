"""How much memory the bodies that are being read take together."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from shared.errors import QueueFull
from shared.jobs.wire import MIB
from shared.media.sizes import in_words

BESIDE_MEDIA = MIB  # bytes of a body that are not media
AT_ONCE = 4  # bodies of the largest size
SMALL = 65_536  # bytes of a body that always finds room: a server has read them before it asks
RETRY_AFTER_S = 5


class Uploads:
    """The uploads in flight; lives on one event loop.

    Args:
        max_file: bytes of one file; a body may be as large as one such file in base64.
        on_refusal: hears the code of the error by which a request is turned away.
    """

    def __init__(self, max_file: int, on_refusal: Callable[[str], None] = lambda code: None) -> None:
        self.max_file = max_file
        self.limit = max_file * 4 // 3 + BESIDE_MEDIA
        self._free = AT_ONCE * self.limit
        self._on_refusal = on_refusal

    @contextmanager
    def room(self, content_length: str | None, limit: int | None = None) -> Iterator[None]:
        """The block in which a body is read; refused before anything of it is.

        Args:
            content_length: what its header says. Where it says nothing, the body may be of the largest size.
            limit: bytes of the largest one, where a route keeps less than others do.

        Raises:
            QueueFull: the others leave too little of the memory for uploads.
        """
        size = _size(content_length, self.limit if limit is None else min(limit, self.limit))
        taken = size if size > SMALL else 0
        if taken > self._free:
            self._on_refusal(QueueFull.code)
            raise QueueFull(
                f"uploads may take {in_words(AT_ONCE * self.limit)} together (by MAX_MEDIA_BYTES), which others do; "
                "try again in a while",
                retry_after_s=RETRY_AFTER_S,
            )
        self._free -= taken
        try:
            yield
        finally:
            self._free += taken


def _size(content_length: str | None, limit: int) -> int:
    """What a body may come to, in bytes."""
    try:
        size = int(content_length or "")
    except ValueError:
        return limit
    return size if 0 <= size < limit else limit
