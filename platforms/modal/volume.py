"""Which models are on the volume, as the web function sees it: by the names of their files, without a card."""

import re
from typing import Any

from shared import logs
from shared.errors import ModelUnavailable
from shared.models.cached import folder_name
from shared.models.catalog import COMMIT, LOCAL, Entry
from shared.plan import Plan

IN_SNAPSHOT = re.compile(r"(?:^|/)snapshots/([^/]+)/(.+)")
COMMAND = "modal run -m platforms.modal.app::download_model --model-id"


class ModelVolume:
    """Implements backend.Shelf over a `modal.Volume`, which it asks for names; a model that was seen stays seen.

    Whether what is there is whole is for the container to find, and all that Modal does not tell.
    """

    def __init__(self, volume: Any) -> None:
        self._volume = volume
        self._seen: set[tuple[str, str]] = set()

    async def check(self, plan: Plan) -> None:
        """See Shelf."""
        for entry in [found.entry for found in (plan, *plan.nested) if found.entry]:
            if entry.model_id.startswith(LOCAL) or (entry.full_id, entry.revision) in self._seen:
                continue
            if await self._lacks(entry):
                filename = f" --filename {entry.files[0]}" if entry.files else ""
                raise ModelUnavailable(
                    f"'{entry.full_id}' is not on the volume; whoever runs this app can download it: "
                    f"{COMMAND} {entry.model_id}{filename}"
                )
            self._seen.add((entry.full_id, entry.revision))

    async def _lacks(self, entry: Entry) -> bool:
        try:
            return not any(_is_of(entry, path) for path in await self._paths(entry.model_id))
        except Exception as exc:  # noqa: BLE001 whatever Modal raises: the container looks anyway
            logs.logger.warning("the volume could not be listed", extra={"fields": {"error": type(exc).__name__}})
            return False

    async def _paths(self, model_id: str) -> list[str]:
        """What is in a model's folder, whose name may be lower-cased, as RunPod's are."""
        named = [entry.path.strip("/") for entry in await self._volume.listdir.aio("/")]
        folder = next((name for name in named if name.lower() == folder_name(model_id).lower()), None)
        if folder is None:
            return []
        return [entry.path for entry in await self._volume.listdir.aio(f"/{folder}", recursive=True)]


def _is_of(entry: Entry, path: str) -> bool:
    """Whether a file is of a snapshot that may stand for the entry's revision, and is what it needs of that."""
    found = IN_SNAPSHOT.search(path)
    if not found or (COMMIT.fullmatch(entry.revision) and found[1] != entry.revision):
        return False
    return not entry.files or found[2] in entry.files
