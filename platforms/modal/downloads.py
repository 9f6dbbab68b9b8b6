"""Fills the volume with models."""

import time
from collections.abc import Callable

from shared import logs
from shared.errors import ENDINGS, InvalidInput
from shared.models.catalog import Catalog, Entry, named
from shared.models.store import Store
from shared.models.transfer import Transfer
from shared.settings import Settings

TOLD_EVERY_S = 5.0
ANY = "any"  # the pipeline of a model that the list does not have


def download(model_id: str, revision: str | None, filename: str | None) -> None:
    """Download one model, as the list has it, or any other of the hub.

    Raises:
        InvalidInput: it cannot be one.
        ModelUnavailable: the hub has no such model, wants a token for it, or cannot be reached.
    """
    settings = Settings.from_env()
    logs.set_up(settings.log_level)
    catalog = Catalog.from_settings(settings)
    for entry in _entries(catalog, model_id, revision, filename):
        _get(Store.from_settings(settings, catalog), entry)


def download_listed(commit: Callable[[], None]) -> None:
    """Download every model of the list; one that cannot be had does not keep the others back.

    Raises:
        ExceptionGroup: naming those that could not be had, once the others are there.
    """
    settings = Settings.from_env()
    logs.set_up(settings.log_level)
    catalog = Catalog.from_settings(settings)
    store, failed = Store.from_settings(settings, catalog), []
    for entry in {entry.full_id: entry for entry in catalog.local}.values():
        try:
            _get(store, entry)
            commit()
        except ENDINGS as ending:
            say(f"{entry.full_id}: {ending}")
            failed.append(RuntimeError(f"{entry.full_id}: {ending}"))
    if failed:
        raise ExceptionGroup(f"{len(failed)} models are not on the volume", failed)


def _entries(catalog: Catalog, model_id: str, revision: str | None, filename: str | None) -> list[Entry]:
    wanted = f"{model_id}/{filename}" if filename else model_id
    found = named(catalog.local, wanted) or [_of_the_hub(model_id, filename)]
    if revision:
        found = [entry.model_copy(update={"revision": revision, "pinned": False}) for entry in found]
    return list({(e.model_id, e.revision, e.files): e for e in found}.values())


def _of_the_hub(model_id: str, filename: str | None) -> Entry:
    try:
        return Entry(pipeline=ANY, model_id=model_id, files=(filename,) if filename else ())
    except ValueError as wrong:
        raise InvalidInput(f"'{model_id[:64]}' cannot be a model: {wrong}") from None


def _get(store: Store, entry: Entry) -> None:
    told_at = 0.0

    def tell(moment: Transfer) -> None:
        nonlocal told_at
        if moment.total and time.monotonic() > told_at + TOLD_EVERY_S:
            told_at = time.monotonic()
            say(f"{entry.full_id}: {moment.done / 10**9:.2f} of {moment.total / 10**9:.2f} GB")

    source = store.ensure(entry, on_download=tell)
    say(f"{entry.full_id}: at {source.revision}")


def say(line: str) -> None:
    """Tell who ran the download."""
    print(line, flush=True)  # noqa: T201 it is the function's output
