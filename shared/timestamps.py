"""Times as text."""

import time
from functools import lru_cache


def rfc3339(seconds: float) -> str:
    """A time since the epoch in RFC 3339, UTC, cut to the millisecond."""
    milliseconds = int(seconds * 1000)
    return f"{_second(milliseconds // 1000)}.{milliseconds % 1000:03d}Z"


@lru_cache(maxsize=8)
def _second(epoch: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(epoch))
