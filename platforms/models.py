"""`pilotlight models`: what is on this machine's volumes, downloaded, verified and evicted."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from platforms.endings import errors, say

if TYPE_CHECKING:
    from shared.models.catalog import Catalog, Entry
    from shared.models.checks import Damaged
    from shared.models.inventory import Stored
    from shared.models.store import Store
    from shared.models.transfer import Transfer
    from shared.settings import Settings

app = typer.Typer(help="List, download, verify and evict the models of this machine.", no_args_is_help=True)

SECONDS = {"h": 3600.0, "d": 86_400.0}
ANY = "any"  # stands for the pipeline where the user names none
Model = Annotated[str, typer.Argument(metavar="MODEL_ID", help="Such as stabilityai/sdxl-turbo.")]
SomeModel = Annotated[str | None, typer.Argument(metavar="MODEL_ID", help="Such as stabilityai/sdxl-turbo.")]


def _seconds(text: str) -> float:
    try:
        return float(text[:-1]) * SECONDS[text[-1:]]
    except (ValueError, KeyError):
        raise typer.BadParameter(f"'{text}' is not a time such as 30d or 12h") from None


@app.command("list")
def list_(as_json: Annotated[bool, typer.Option("--json", help="A JSON list instead of a table.")] = False) -> None:
    """Show every model on the volumes: size, revision, last use, and whether it is pinned, complete and in use."""
    with errors(), _desk() as desk:
        found = desk.stored()
        if as_json:
            typer.echo(json.dumps([_fields(model) for model in found], indent=2))
        else:
            _print_table(found)


@app.command()
def download(
    model_id: SomeModel = None,
    everything: Annotated[bool, typer.Option("--all", help="Every model of the catalog.")] = False,
    pipeline: Annotated[str | None, typer.Option(help="The models of this pipeline only.")] = None,
) -> None:
    """Fetch models before the first job needs them, and print where they are."""
    if bool(model_id) == bool(everything or (pipeline and not model_id)):
        raise typer.BadParameter("give one of MODEL_ID, --all and --pipeline")
    with errors(), _desk() as desk:
        fetched = [_fetch(desk, entry) for entry in desk.entries(model_id, pipeline)]
    if not all(fetched):
        raise typer.Exit(1)


@app.command()
def verify(
    model_id: SomeModel = None,
    repair: Annotated[bool, typer.Option(help="Fetch what is damaged again.")] = False,
) -> None:
    """Read every file and compare its hash with the hub's; exit code 1 when something is damaged."""
    with errors(), _desk() as desk:
        sound = [_verify(desk, model, repair=repair) for model in desk.stored(model_id)]
    if not all(sound):
        raise typer.Exit(1)


@app.command()
def evict(
    model_id: SomeModel = None,
    unused_for: Annotated[
        float | None, typer.Option(parser=_seconds, metavar="30d", help="What nobody used for so long: 30d, 12h.")
    ] = None,
) -> None:
    """Delete a model, or all that were not used lately; never what is pinned, in use or another tool's."""
    if (model_id is None) == (unused_for is None):
        raise typer.BadParameter("give either MODEL_ID or --unused-for")
    with errors(), _desk() as desk:
        found = desk.stored(model_id) if unused_for is None else desk.unused(time.time() - unused_for)
        gone = [_evict(desk, model) for model in found]
    if model_id and not all(gone):
        raise typer.Exit(1)


@app.command()
def path(model_id: Model) -> None:
    """Print where a model is; exit code 1 when it is not here, or not whole."""
    with errors(), _desk() as desk:
        for entry in desk.entries(model_id, None):
            typer.echo(desk.path(entry))


class _Desk:
    """The store and the catalog as a worker on this machine has them."""

    def __init__(self, settings: "Settings", catalog: "Catalog", store: "Store") -> None:
        self._settings = settings
        self._catalog = catalog
        self.store = store

    def entries(self, model_id: str | None, pipeline: str | None) -> "list[Entry]":
        """The entries of a model, else of a pipeline, else all; each model once.

        Raises:
            InvalidInput: there is none.
        """
        offered = [e for e in self._catalog.entries if pipeline in (None, e.pipeline)]
        found = [e for e in offered if model_id in (None, e.model_id)]
        distinct = {(e.model_id, e.revision, e.files): e for e in found}
        return list(distinct.values()) or [self._resolve(model_id, pipeline)]

    def _resolve(self, model_id: str | None, pipeline: str | None) -> "Entry":
        """What the catalog makes of a model that it does not list: an entry with ALLOW_ANY_MODEL, else an error."""
        from shared.models.catalog import Catalog

        if pipeline:
            return self._catalog.resolve(pipeline, model_id)
        of_any = {e.model_id: e.model_copy(update={"pipeline": ANY}) for e in self._catalog.entries}
        return Catalog(list(of_any.values()), allow_any=self._settings.allow_any_model).resolve(ANY, model_id)

    def stored(self, model_id: str | None = None) -> "list[Stored]":
        """What is on the volumes, each once though two settings may name one folder.

        Raises:
            ModelUnavailable: nothing of this model is.
        """
        from shared.errors import ModelUnavailable

        each = {model.path.resolve(): model for model in self.store.stored()}.values()
        found = [m for m in each if model_id is None or m.model_id.lower() == model_id.lower()]
        if model_id and not found:
            raise ModelUnavailable(f"model '{model_id}' is not on the volumes")
        return found

    def unused(self, since: float) -> "list[Stored]":
        """What the store has downloaded and nobody has used since then."""
        return [m for m in self.stored() if m.last_used is not None and m.last_used < since]

    def path(self, entry: "Entry") -> str:
        """Where the model is.

        Raises:
            ModelUnavailable: it is not here, and why.
        """
        from shared.errors import ModelUnavailable
        from shared.models.cached import why_not

        if source := self.store.find(entry):
            return str(source.path)
        wrong = next((why for root in self.store.roots() if (why := why_not(root, entry))), "")
        damage = f"is damaged: {wrong}; `pilotlight models verify --repair`"
        missing = f"is not here; `pilotlight models download {entry.model_id}`"
        raise ModelUnavailable(f"model '{entry.model_id}' {damage if wrong else missing}")

    def repair(self, model: "Stored", damaged: "list[Damaged]") -> None:
        """Fetch the damaged files again, at the commit that is here.

        Raises:
            ModelUnavailable: they cannot be had.
        """
        from shared.models.catalog import Entry

        names = {damage.name for damage in damaged}
        listed = [e for e in self._catalog.entries if e.model_id == model.model_id]
        listed.sort(key=lambda e: names.isdisjoint(e.files))  # of several, the one that has the file
        entry = listed[0] if listed else Entry(pipeline=ANY, model_id=model.model_id)
        self.store.repair(entry.model_copy(update={"revision": model.revision}), model, damaged)


@contextmanager
def _desk() -> Iterator[_Desk]:
    from shared.models.catalog import Catalog
    from shared.models.store import Store
    from shared.settings import Settings

    settings = Settings.from_env()
    catalog = Catalog.from_settings(settings)
    store = Store.from_settings(settings, catalog)
    try:
        yield _Desk(settings, catalog, store)
    finally:
        store.close()


def _fetch(desk: _Desk, entry: "Entry") -> bool:
    """Download one model; False, and why, where that fails: the others are still fetched."""
    from shared.errors import JobError

    try:
        with _bar(entry.model_id) as show:
            source = desk.store.ensure(entry, on_download=show)
    except JobError as error:
        say(str(error))
        return False
    typer.echo(f"{entry.model_id} {source.path}")
    return True


@contextmanager
def _bar(name: str) -> "Iterator[Callable[[Transfer], None]]":
    """A progress bar on stderr, where that is a terminal."""
    from rich.console import Console
    from rich.filesize import decimal
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TextColumn("{task.fields[pace]}")
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(name, total=None, pace="")

        def show(moment: "Transfer") -> None:
            eta = f", {moment.eta_s:.0f} s left" if moment.eta_s is not None else ""
            pace = f"{decimal(int(moment.rate))}/s{eta}" if moment.rate else ""
            progress.update(task, completed=moment.done, total=moment.total or None, pace=pace)

        yield show


def _verify(desk: _Desk, model: "Stored", *, repair: bool) -> bool:
    """Whether the model is as on the hub, in the end; says what is not."""
    from shared.errors import JobError

    damaged = desk.store.verify(model)
    for damage in damaged:
        say(f"{_title(model)}: {damage.name} {damage.what}")
    if not damaged:
        typer.echo(f"{_title(model)}: {'as on the hub' if model.complete else 'what is there is as on the hub'}")
        return True
    if not repair:
        return False
    try:
        desk.repair(model, damaged)
    except JobError as error:
        say(str(error))
        return False
    typer.echo(f"{_title(model)}: repaired")
    return True


def _evict(desk: _Desk, model: "Stored") -> bool:
    """Whether the model went; says why not."""
    from rich.filesize import decimal

    gone = desk.store.evict(model)
    if gone:
        typer.echo(f"{_title(model)}: evicted, {decimal(model.bytes)} freed")
    else:
        say(f"{_title(model)}: kept, {_why_kept(model)}")
    return gone


def _why_kept(model: "Stored") -> str:
    if not model.ours:
        return "another tool downloaded it; delete it there"
    if model.pinned:
        return "it is pinned in the catalog"
    return "a worker uses it" if model.in_use else "another process is working on it"


def _title(model: "Stored") -> str:
    return f"{model.model_id} {model.revision[:12]}"


def _fields(model: "Stored") -> dict[str, object]:
    from dataclasses import asdict

    return {**asdict(model), "path": str(model.path)}


def _print_table(models: "list[Stored]") -> None:
    from rich.console import Console
    from rich.filesize import decimal
    from rich.table import Table

    table = Table("model", "revision", "size", "last use", "pinned", "complete", "in use")
    table.columns[0].overflow = "fold"
    for model in models:
        facts = (model.pinned, model.complete, model.in_use)
        marks = ["yes" if fact else "no" for fact in facts]
        table.add_row(model.model_id, model.revision[:7], decimal(model.bytes), _last_use(model), *marks)
    Console().print(table)


def _last_use(model: "Stored") -> str:
    if model.last_used is None:
        return "unknown"
    return time.strftime("%Y-%m-%d", time.localtime(model.last_used))
