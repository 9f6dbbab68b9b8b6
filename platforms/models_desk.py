"""The store and the catalog as a worker on this machine has them, for the commands that look after its models."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shared.models.catalog import Catalog, Entry
    from shared.models.checks import Damaged
    from shared.models.inventory import Stored, Volume
    from shared.models.store import Store
    from shared.models.transfer import Transfer
    from shared.schemas import ModelSource
    from shared.settings import Settings

ANY = "any"  # stands for the pipeline where the user names none


class Desk:
    """What `pilotlight models` asks about this machine's models."""

    def __init__(self, settings: "Settings", catalog: "Catalog", store: "Store") -> None:
        self.settings = settings
        self._catalog = catalog
        self.store = store

    def entries(
        self, model_id: str | None, pipeline: str | None = None, revision: str | None = None
    ) -> "list[Entry]":
        """The entries of a model, else of a pipeline, else all; each model once, and at the revision if one is named.

        Raises:
            InvalidInput: there is none, or it is a folder, which has no revisions.
        """
        from shared.models.catalog import named

        offered = [e for e in self._catalog.local if pipeline in (None, e.pipeline)]
        found = (named(offered, model_id) if model_id else offered) or [self._resolve(model_id, pipeline)]
        if revision:
            found = [_at(entry, revision) for entry in found]
        return list({(e.model_id, e.revision, e.files): e for e in found}.values())

    def _resolve(self, model_id: str | None, pipeline: str | None) -> "Entry":
        """What the catalog makes of a model that it does not list: an entry with ALLOW_ANY_MODEL, else an error."""
        from shared.models.catalog import Catalog

        if pipeline:
            return self._catalog.resolve(pipeline, model_id)
        of_any = {e.full_id: e.model_copy(update={"pipeline": ANY}) for e in self._catalog.entries}
        return Catalog(list(of_any.values()), allow_any=self.settings.allow_any_model).resolve(ANY, model_id)

    def stored(self, model_id: str | None = None, revision: str | None = None) -> "list[Stored]":
        """What is on the volumes, each once though two settings may name one folder.

        The id of one file means what has that file.

        Raises:
            ModelUnavailable: nothing of this model is, or nothing of it at this revision.
        """
        from shared.errors import ModelUnavailable
        from shared.models.catalog import IN_REPOSITORY

        one = IN_REPOSITORY.fullmatch(model_id or "")
        repository, file = one.groups() if one else (model_id, None)
        each = {model.path.resolve(): model for model in self.store.stored()}.values()
        found = [m for m in each if repository is None or m.model_id.lower() == repository.lower()]
        found = [m for m in found if file is None or (m.path / file).exists()]
        if model_id and not found:
            raise ModelUnavailable(f"model '{model_id}' is not on the volumes")
        at = [m for m in found if revision is None or m.is_at(revision)]
        if found and not at:
            known = ", ".join(f"{m.revision[:12]}{''.join(f' ({ref})' for ref in m.refs)}" for m in found)
            raise ModelUnavailable(f"model '{model_id}' is not here at revision '{revision}'; it is here at: {known}")
        return at

    def unused(self, since: float) -> "list[Stored]":
        """What the store has downloaded and nobody has used since then."""
        return [m for m in self.stored() if m.last_used is not None and m.last_used < since]

    def volumes(self) -> "list[Volume]":
        """The caches that are there; the first one is where downloads go if it can be written."""
        from shared.models.inventory import volume

        there = {root.resolve(): root for root in self.store.roots() if root.is_dir()}
        return [volume(root) for root in there.values()]

    def found(self, model_id: str, revision: str | None) -> "list[ModelSource]":
        """Where a model is, for each way in which the catalog has it.

        Raises:
            InvalidInput: the catalog has no such model.
            ModelUnavailable: it is not here, and why.
        """
        entries = self.entries(model_id, revision=revision)
        if revision:
            here = self.stored(entries[0].model_id, revision)
            entries = [e.model_copy(update={"revision": m.revision}) for e in entries for m in here]
        return [self._source(entry) for entry in entries]

    def _source(self, entry: "Entry") -> "ModelSource":
        from shared.errors import ModelUnavailable
        from shared.models.cached import why_not

        if source := self.store.find(entry):
            return source
        wrong = next((why for root in self.store.roots() if (why := why_not(root, entry))), "")
        damage = f"is damaged: {wrong}; `pilotlight models verify --repair`"
        missing = f"is not here; `pilotlight models download {entry.full_id}`"
        raise ModelUnavailable(f"model '{entry.full_id}' {damage if wrong else missing}")

    def repair(self, model: "Stored", damaged: "list[Damaged]", on_download: "Callable[[Transfer], None]") -> None:
        """Fetch the damaged files again, at the commit that is here.

        Raises:
            ModelUnavailable: they cannot be had.
        """
        self.store.repair(model, damaged, on_download=on_download)


def _at(entry: "Entry", revision: str) -> "Entry":
    from shared.errors import InvalidInput
    from shared.models.catalog import LOCAL

    if entry.model_id.startswith(LOCAL):
        raise InvalidInput(f"model '{entry.model_id}' is a folder, and has no revisions")
    return entry.model_copy(update={"revision": revision, "pinned": False})


@contextmanager
def open_desk() -> Iterator[Desk]:
    """The desk for the length of a command.

    Raises:
        InvalidInput: the environment, or the models.json that it names, cannot be used.
    """
    from shared.models.catalog import Catalog
    from shared.models.store import Store
    from shared.settings import Settings

    settings = Settings.from_env()
    catalog = Catalog.from_settings(settings)
    store = Store.from_settings(settings, catalog)
    try:
        yield Desk(settings, catalog, store)
    finally:
        store.close()
