"""Where the time of a model's load went."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stages:
    """Seconds by stage, `<stage>_s`, in the order of the stages."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Note the block's time."""
        begun = time.monotonic()
        try:
            yield
        finally:
            self.seconds[f"{stage}_s"] = round(time.monotonic() - begun, 4)
