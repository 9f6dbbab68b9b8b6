"""How a command ends that cannot do what it was asked for: with one line and exit code 1, not with a traceback."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer


@contextmanager
def errors() -> Iterator[None]:
    """Say what went wrong within the block, and end the command."""
    from shared.errors import ENDINGS

    try:
        yield
    except ENDINGS as error:
        say(str(error))
        raise typer.Exit(1) from None
    except OSError as error:
        say(f"{error.filename or 'input/output'}: {error.strerror or error}")
        raise typer.Exit(1) from None


def say(what: str) -> None:
    """One red line on stderr."""
    typer.secho(what, fg="red", err=True)
