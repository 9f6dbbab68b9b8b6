"""The table of `pilotlight models list`, and below it what all of it takes and what is left."""

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from platforms.models_desk import Desk
    from shared.models.inventory import Stored, Volume

STATE_COLUMNS = 16  # a second line of words there is easier to read than a name in three
FILE_COLUMNS = 200  # where the table goes to a file or another program
GB = 10**9


def print_list(desk: "Desk") -> None:
    """Everything that is on the volumes; on a terminal as wide as that."""
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console.width = FILE_COLUMNS
    models = desk.stored()
    if models:
        console.print(_table(models, STATE_COLUMNS if console.is_terminal else None))
        console.print()
    lines = [_line(desk, volume, models) for volume in desk.volumes() if volume.taken]
    for line in lines or ["no models here; `pilotlight models download --all` fetches the catalog's"]:
        console.print(line, highlight=False, markup=False)


def _table(models: "list[Stored]", state_columns: int | None) -> "Table":
    from rich.filesize import decimal
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold underline")
    table.add_column("model", overflow="fold")
    table.add_column("revision", no_wrap=True)
    table.add_column("size", no_wrap=True, justify="right")
    table.add_column("last use", no_wrap=True)
    table.add_column("state", max_width=state_columns)
    for model in models:
        row = model.model_id, model.revision[:7], decimal(model.bytes), _last_use(model), _state(model)
        table.add_row(*row)
    return table


def _state(model: "Stored") -> str:
    words = ["complete" if model.complete else "incomplete"]
    words += ["pinned"] if model.pinned else []
    words += ["in use"] if model.in_use else []
    words += [] if model.ours else ["another tool's"]
    return ", ".join(words)


def _last_use(model: "Stored") -> str:
    if model.last_used is None:
        return "unknown"
    return time.strftime("%Y-%m-%d", time.localtime(model.last_used))


def _line(desk: "Desk", volume: "Volume", models: "list[Stored]") -> str:
    from rich.filesize import decimal

    here = [m for m in models if m.path.is_relative_to(volume.root)]
    unfinished = f", {decimal(volume.unfinished)} of it in unfinished downloads" if volume.unfinished else ""
    free = (
        "a network volume, which does not tell what is free"
        if volume.free is None
        else f"{decimal(volume.free)} free"
    )
    number = f"{len(here)} model{'' if len(here) == 1 else 's'}"
    return f"{volume.root}: {number}, {decimal(volume.taken)}{unfinished}; {free}{_limit(desk, here)}"


def _limit(desk: "Desk", here: "list[Stored]") -> str:
    """What is left of MODELS_MAX_GB, which counts only what the store has downloaded."""
    from rich.filesize import decimal

    if desk.settings.models_max_gb is None:
        return ""
    downloaded = sum(m.bytes for m in here if m.last_used is not None)
    left = max(0, int(desk.settings.models_max_gb * GB) - downloaded)
    return f"; {decimal(left)} left of MODELS_MAX_GB={desk.settings.models_max_gb:g}"
