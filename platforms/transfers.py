"""A progress bar for bytes that are fetched or read, on stderr where that is a terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shared.models.transfer import Transfer

BAR_COLUMNS = 12  # leaves a name 27 columns in a line beside bytes, rate and time left, on a screen of 80
KNOWN = 0.001  # of all bytes; before that, the rate is that of a few small files


@contextmanager
def bar(doing: str) -> "Iterator[Callable[[Transfer], None]]":
    """What to call with each moment of the transfer; the bar goes when the block ends."""
    from rich.console import Console
    from rich.filesize import decimal
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn
    from rich.table import Column

    console = Console(stderr=True)
    whole = Column(no_wrap=True)
    columns = (
        TextColumn("{task.description}", table_column=Column(overflow="fold")),  # the one that takes more lines
        BarColumn(BAR_COLUMNS, table_column=whole),
        DownloadColumn(table_column=whole.copy()),
        TextColumn("{task.fields[pace]}", table_column=whole.copy()),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(doing, total=None, pace="")

        def show(moment: "Transfer") -> None:
            known = moment.rate is not None and moment.done >= KNOWN * moment.total
            left = f", {_duration(moment.eta_s)} left" if moment.eta_s is not None else ""
            pace = f"{decimal(int(moment.rate or 0))}/s{left}" if known else ""
            progress.update(task, completed=moment.done, total=moment.total or None, pace=pace)

        yield show


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min" if minutes else f"{seconds:.0f} s"
