"""`pilotlight models pin`: the commits at which the branches of a models.json are now, asked for and written down."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shared.errors import JobError
    from shared.models.catalog import Entry
    from shared.settings import Settings


@dataclass(frozen=True)
class Pin:
    """What came of one model and revision: a commit, or why there is none."""

    model_id: str
    named: str  # the revision before
    commit: str = ""
    error: "JobError | None" = None


def pin(settings: "Settings", file: Path | None, model_id: str | None) -> list[Pin]:
    """Pin a model, or all, in the file named, else in the one that `MODELS` names; those pinned before come first.

    Raises:
        InvalidInput: there is no such file or model, or the file is the built-in one and was not named.
        ModelUnavailable: nobody may be asked for commits.
    """
    from shared.models.catalog import read
    from shared.models.pinning import write_pins

    file = file or _own(settings)
    entries = _of_the_hub(read(file), model_id, file)
    before = [Pin(e.model_id, e.revision, e.revision) for e in entries if e.pinned]
    asked = {(e.model_id, e.revision): e for e in entries if not e.pinned}
    pins = list(_asked(settings, list(asked.values())))
    if commits := {(p.model_id, p.named): p.commit for p in pins if p.commit}:
        write_pins(file, commits)
    return [*dict.fromkeys(before), *pins]


def _own(settings: "Settings") -> Path:
    from shared.errors import InvalidInput
    from shared.models.catalog import BUILT_IN

    if settings.models is None or settings.models.resolve() == BUILT_IN.resolve():
        raise InvalidInput(
            "the built-in models.json is changed only where --file names it; set MODELS to a file of your own"
        )
    return settings.models


def _of_the_hub(entries: "list[Entry]", model_id: str | None, file: Path) -> "list[Entry]":
    from shared.errors import InvalidInput
    from shared.models.catalog import LOCAL, named

    of_hub = [e for e in entries if not e.model_id.startswith(LOCAL)]
    found = named(of_hub, model_id) if model_id else of_hub
    if model_id and not found:
        names = ", ".join(dict.fromkeys(e.full_id for e in of_hub)) or "none"
        raise InvalidInput(f"'{model_id}' is no model of the hub in {file.name}; it has: {names}")
    return found


def _asked(settings: "Settings", entries: "list[Entry]") -> Iterator[Pin]:
    from huggingface_hub.constants import is_offline_mode

    from shared.errors import ModelUnavailable
    from shared.models.hub import Hub

    if entries and is_offline_mode():
        raise ModelUnavailable("only the hub knows the commits to pin, and HF_HUB_OFFLINE is set", reason="offline")
    hub = Hub(token=settings.hf_token.get_secret_value() if settings.hf_token else None)
    for entry in entries:
        try:
            yield Pin(entry.model_id, entry.revision, hub.listing(entry.model_id, entry.revision).commit)
        except ModelUnavailable as error:
            yield Pin(entry.model_id, entry.revision, error=error)
