"""How much of a card's memory each model was seen to take, remembered on disk."""

import json
import logging
from pathlib import Path

from pydantic import NonNegativeInt, TypeAdapter, ValidationError

from platforms.local.deployments import Deployment, key_of

log = logging.getLogger(__name__)

_FILE = TypeAdapter(dict[str, NonNegativeInt])
_WORTH_WRITING = 16 * 2**20  # bytes more than before


class Sizes:
    """The most that the worker of each deployment held while it ran jobs, by what it serves."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = _read(path)

    def of(self, deployment: Deployment, largest: int) -> int | None:
        """Bytes: as seen, else as models.json says; None where neither is known.

        A chain needs room for all of its models at once; where no card has so much (`largest`), it gets a card to
        itself, and its worker lets one model go for the next.
        """
        if (seen := self._seen.get(deployment.key)) is not None and seen <= largest:
            return seen
        parts = [self._part(deployment, number, largest) for number in range(len(deployment.models))]
        known = [size for size in parts if size is not None]
        if len(known) < len(parts) or (sum(known) > largest >= max(known)):
            return None
        return sum(known)

    def _part(self, deployment: Deployment, number: int, largest: int) -> int | None:
        """What one of its models needs.

        What it was seen to hold on a larger card than any that is here, it may only have kept because it could.
        """
        said = deployment.said[number]
        seen = self._seen.get(key_of(deployment.endpoint, [deployment.models[number]]))
        if seen is None or seen <= largest:
            return said if seen is None else seen
        return seen if said is not None and said > largest else None

    def note(self, deployment: Deployment, size: int) -> None:
        """It holds so many bytes, and has run a job."""
        if size <= self._seen.get(deployment.key, 0) + _WORTH_WRITING and deployment.key in self._seen:
            return
        self._seen[deployment.key] = size
        incoming = self._path.with_suffix(".new")
        incoming.write_text(json.dumps(self._seen, indent=1))
        incoming.replace(self._path)


def _read(path: Path) -> dict[str, int]:
    """What was remembered; nothing of a file that is damaged, for it can be measured again."""
    try:
        return _FILE.validate_json(path.read_bytes()) if path.exists() else {}
    except ValidationError:
        log.warning("%s is damaged: what models take is measured anew", path.name)
        return {}
