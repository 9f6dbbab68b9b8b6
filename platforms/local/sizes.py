"""How much of a card's memory each model was seen to take, remembered on disk."""

import json
from pathlib import Path

from platforms.local.deployments import Deployment, key_of

_WORTH_WRITING = 16 * 2**20  # bytes more than before


class Sizes:
    """The most that the worker of each deployment held while it ran jobs, by what it serves."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: dict[str, int] = json.loads(path.read_text()) if path.exists() else {}

    def of(self, deployment: Deployment, largest: int) -> int | None:
        """Bytes: as seen, else as models.json says; None where neither is known.

        A chain needs room for all of its models at once; where no card has so much (`largest`), it gets a card to
        itself, and its worker lets one model go for the next.
        """
        if deployment.key in self._seen:
            return self._seen[deployment.key]
        parts = [self._part(deployment, number) for number in range(len(deployment.models))]
        known = [size for size in parts if size is not None]
        if len(known) < len(parts) or (sum(known) > largest >= max(known)):
            return None
        return sum(known)

    def _part(self, deployment: Deployment, number: int) -> int | None:
        """What one of its models needs."""
        return self._seen.get(key_of(deployment.endpoint, [deployment.models[number]]), deployment.said[number])

    def note(self, deployment: Deployment, size: int) -> None:
        """It holds so many bytes, and has run a job."""
        if size <= self._seen.get(deployment.key, 0) + _WORTH_WRITING and deployment.key in self._seen:
            return
        self._seen[deployment.key] = size
        incoming = self._path.with_suffix(".new")
        incoming.write_text(json.dumps(self._seen, indent=1))
        incoming.replace(self._path)
