"""Room that downloads have claimed in one root: counted by one process at a time, and told by their leases."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.models import incoming
from shared.models.lease import Lease, Timing, Waiter, read_holder
from shared.models.published import read_marker


@contextmanager
def alone(root: Path, timing: Timing, between: Callable[[], None]) -> Iterator[None]:
    """One process at a time counts and claims, or two would count on the same room; `between` may raise."""
    waiter = Waiter(root, timing)
    while (turn := waiter.attempt()) is None:
        between()
        time.sleep(timing.beat_s / 4)
    try:
        with turn:
            yield
    finally:
        incoming.tidy(root)


def of_others(root: Path, lease: Lease) -> dict[Path, int]:
    """What others are about to publish here, by the models' folders, in bytes."""
    holders = [(repo, read_holder(repo)) for repo in root.glob("models--*")]
    others = [(repo, holder) for repo, holder in holders if holder and holder.token != lease.token]
    claims = {repo: missing(repo, holder.commit, holder.room) for repo, holder in others}
    return {repo: claim for repo, claim in claims.items() if claim}


def missing(repo: Path, commit: str, size: int) -> int:
    """How many bytes of a snapshot that will have `size` are not published yet."""
    marker = read_marker(repo, commit)
    return max(0, size - marker.total()) if marker else size
