"""`pilotlight models`: what is on this machine's volumes, downloaded, verified, evicted and pinned.

With `--json` each command writes one document on stdout: a list with an object for each model, whose `error` says why
it failed, or `{"error": "code: message"}` where all of it did. docs/volumes.md has the fields.
"""

import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from platforms.endings import errors, say
from platforms.models_desk import Desk, open_desk
from platforms.transfers import bar

if TYPE_CHECKING:
    from platforms.models_pin import Pin
    from shared.models.catalog import Entry
    from shared.models.checks import Damaged
    from shared.models.inventory import Stored

app = typer.Typer(
    help="List, download, verify, evict and pin the models of this machine.",
    epilog="With --json: one document on stdout, a list with an object for each model, which has an `error` where it "
    'failed; or {"error": "code: message"}. docs/volumes.md has the fields.',
    no_args_is_help=True,
)

SECONDS = {"h": 3600.0, "d": 86_400.0}
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout; docs/volumes.md has its fields.")]
Model = Annotated[str, typer.Argument(metavar="MODEL_ID", help="Such as stabilityai/sdxl-turbo.")]
SomeModel = Annotated[str | None, typer.Argument(metavar="MODEL_ID", help="Such as stabilityai/sdxl-turbo.")]
Wanted = Annotated[str | None, typer.Option(metavar="R", help="Commit, branch or tag; by default the catalog's.")]
There = Annotated[str | None, typer.Option(metavar="R", help="Commit, branch or tag of MODEL_ID; by default all.")]


def _seconds(text: str) -> float:
    try:
        seconds = float(text[:-1]) * SECONDS[text[-1:]]
    except (ValueError, KeyError):
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise typer.BadParameter(f"'{text}' is not a time such as 30d or 12h")
    return seconds


class _Answer:
    """What a command found: lines as it goes, or one JSON document in the end."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.items: list[dict[str, Any]] = []

    def add(self, line: str, **fields: Any) -> None:
        """What came of one model."""
        self.items.append(fields)
        if line and not self.as_json:
            typer.echo(line)

    def add_error(self, error: Exception, **fields: Any) -> None:
        """What failed for one model, while the others go on."""
        say(str(error))
        self.items.append({**fields, "error": str(error)})


@contextmanager
def _answer(*, as_json: bool) -> Iterator[tuple[Desk, _Answer]]:
    """The desk, and what to tell the answer to; a model with an `error` makes the exit code 1."""
    from shared.errors import ENDINGS

    answer = _Answer(as_json=as_json)
    with errors():
        try:
            with open_desk() as desk:
                yield desk, answer
        except (*ENDINGS, OSError) as error:
            if as_json:
                told = f"internal: {error.strerror}" if isinstance(error, OSError) else str(error)
                typer.echo(json.dumps({"error": told}))
            raise
    if as_json:
        typer.echo(json.dumps(answer.items, indent=2))
    if any("error" in item for item in answer.items):
        raise typer.Exit(1)


def _needs_model(model_id: str | None, revision: str | None) -> None:
    if revision and not model_id:
        raise typer.BadParameter("--revision is that of a MODEL_ID; give one")


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """Show every model on the volumes, what they take and what is left."""
    from platforms.models_list import print_list

    with _answer(as_json=as_json) as (desk, answer):
        if not as_json:
            print_list(desk)
            return
        for model in desk.stored():
            answer.add("", **_fields(model))


@app.command()
def download(
    model_id: SomeModel = None,
    everything: Annotated[bool, typer.Option("--all", help="Every model of the catalog.")] = False,
    pipeline: Annotated[str | None, typer.Option(help="The models of this pipeline only.")] = None,
    revision: Wanted = None,
    as_json: AsJson = False,
) -> None:
    """Fetch models before the first job needs them, and print where they are."""
    if bool(model_id) == bool(everything or (pipeline and not model_id)):
        raise typer.BadParameter("give one of MODEL_ID, --all and --pipeline")
    _needs_model(model_id, revision)
    with _answer(as_json=as_json) as (desk, answer):
        entries = desk.entries(model_id, pipeline, revision)
        for number, entry in enumerate(entries, 1):
            _fetch(desk, answer, entry, _of(number, entries))


@app.command()
def verify(
    model_id: SomeModel = None,
    repair: Annotated[bool, typer.Option(help="Fetch what is damaged again.")] = False,
    revision: There = None,
    as_json: AsJson = False,
) -> None:
    """Read every file and compare its hash with the hub's; exit code 1 when something is damaged."""
    _needs_model(model_id, revision)
    with _answer(as_json=as_json) as (desk, answer):
        models = desk.stored(model_id, revision)
        for number, model in enumerate(models, 1):
            _verify(desk, answer, model, _of(number, models), repair=repair)


@app.command()
def evict(
    model_id: SomeModel = None,
    unused_for: Annotated[
        float | None, typer.Option(parser=_seconds, metavar="30d", help="What nobody used for so long: 30d, 12h.")
    ] = None,
    revision: There = None,
    as_json: AsJson = False,
) -> None:
    """Delete a model, or all that were not used lately; never what is pinned, in use or another tool's."""
    if (model_id is None) == (unused_for is None):
        raise typer.BadParameter("give either MODEL_ID or --unused-for")
    _needs_model(model_id, revision)
    with _answer(as_json=as_json) as (desk, answer):
        since = None if unused_for is None else time.time() - unused_for
        for model in desk.stored(model_id, revision) if since is None else desk.unused(since):
            _evict(desk, answer, model, named=since is None)
        if since is not None and not as_json:
            typer.echo(_freed(answer))


@app.command()
def path(model_id: Model, revision: Wanted = None, as_json: AsJson = False) -> None:
    """Print where a model is; exit code 1 when it is not here, or not whole."""
    with _answer(as_json=as_json) as (desk, answer):
        for source in desk.found(model_id, revision):
            answer.add(str(source.path), model_id=source.model_id, revision=source.revision, path=str(source.path))


@app.command()
def pin(
    model_id: SomeModel = None,
    file: Annotated[
        Path | None, typer.Option(help="The models.json to write; by default the one in MODELS.", dir_okay=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write the commits at which the hub's branches are now into models.json: of a model, or of all that it lists."""
    from platforms.models_pin import pin as pin_entries

    with _answer(as_json=as_json) as (desk, answer):
        for found in pin_entries(desk.settings, file, model_id):
            _tell_pin(answer, found)


def _of(number: int, of: "list[Any]") -> str:
    return f" ({number} of {len(of)})" if len(of) > 1 else ""


def _fetch(desk: Desk, answer: _Answer, entry: "Entry", place: str) -> None:
    """Download one model; where that fails, the others are still fetched."""
    from shared.errors import JobError

    fields = {"model_id": entry.full_id, "revision": entry.revision}
    try:
        with bar(f"{entry.full_id}{place}") as show:
            source = desk.store.ensure(entry, on_download=show)
    except JobError as error:
        answer.add_error(error, **fields)
        return
    found = {**fields, "revision": source.revision, "path": str(source.path)}
    answer.add(f"{entry.full_id} {source.path}", **found)


def _verify(desk: Desk, answer: _Answer, model: "Stored", place: str, *, repair: bool) -> None:
    """Compare one model with the hub's, and mend it where that is asked for."""
    from shared.errors import JobError, ModelUnavailable

    title = _title(model)
    with bar(f"{model.model_id}{place}") as show:
        damaged = desk.store.verify(model, on_progress=show)
    for damage in damaged:
        say(f"{title}: {damage.name} {damage.what}")
    fields = {**_named(model), "complete": model.complete, "damaged": [_damage(d) for d in damaged]}
    if not damaged:
        words = "as on the hub" if model.complete else "what is there is as on the hub"
        answer.add(f"{title}: {words}", **fields, repaired=False)
        return
    try:
        if not repair:
            hint = "`--repair` fetches it again" if model.ours else "another tool downloaded it; delete it there"
            raise ModelUnavailable(f"model '{model.model_id}' is damaged; {hint}")
        with bar(f"{model.model_id}{place}, again") as show:
            desk.repair(model, damaged, show)
    except JobError as error:
        answer.add_error(error, **fields, repaired=False)
        return
    answer.add(f"{title}: repaired", **fields, repaired=True)


def _evict(desk: Desk, answer: _Answer, model: "Stored", *, named: bool) -> None:
    """Delete one model, or say why not: an error where the user named it."""
    from rich.filesize import decimal

    from shared.errors import InvalidInput

    fields = {**_named(model), "bytes": model.bytes}
    if desk.store.evict(model):
        answer.add(f"{_title(model)}: evicted, {decimal(model.bytes)} freed", **fields, evicted=True)
        return
    kept = _why_kept(model)
    if named:
        answer.add_error(InvalidInput(f"{_title(model)}: kept, {kept}"), **fields, evicted=False, kept=kept)
        return
    say(f"{_title(model)}: kept, {kept}")
    answer.add("", **fields, evicted=False, kept=kept)


def _freed(answer: _Answer) -> str:
    """The sum below the lines of what was evicted."""
    from rich.filesize import decimal

    sizes = [item["bytes"] for item in answer.items if item["evicted"]]
    return f"{len(sizes)} model{'' if len(sizes) == 1 else 's'} evicted, {decimal(sum(sizes))} freed"


def _why_kept(model: "Stored") -> str:
    if not model.ours:
        return "another tool downloaded it; delete it there"
    if model.pinned:
        return "it is pinned in the catalog"
    return "a worker uses it" if model.in_use else "another process is working on it"


def _tell_pin(answer: _Answer, pin: "Pin") -> None:
    if pin.error:
        answer.add_error(pin.error, model_id=pin.model_id, revision=pin.named, pinned=False)
        return
    how = "pinned before" if pin.named == pin.commit else f"pinned, was {pin.named}"
    answer.add(f"{pin.model_id} {pin.commit} {how}", model_id=pin.model_id, revision=pin.commit, pinned=True)


def _title(model: "Stored") -> str:
    return f"{model.model_id} {model.revision[:12]}"


def _named(model: "Stored") -> dict[str, Any]:
    return {"model_id": model.model_id, "revision": model.revision, "path": str(model.path)}


def _damage(damage: "Damaged") -> dict[str, str]:
    return {"file": damage.name, "what": damage.what}


def _fields(model: "Stored") -> dict[str, Any]:
    from dataclasses import asdict

    return {**asdict(model), "path": str(model.path)}
