"""A job that answers in text, followed from the terminal: printed as it is written, saved, or cancelled by Ctrl-C."""

import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from platforms.watch import console, save, whole
from shared.errors import Cancelled, DeliveryFailed
from shared.jobs.client import Client

Write = Callable[[str], None]


def run_text(client: Client, given: dict[str, Any], out: Path, write: Write | None = None) -> dict[str, Any]:
    """Submit, print and save one job; returns its result. Text goes to stdout, or to `write`; all else to stderr.

    Raises:
        JobError, Cancelled, DeadlineExceeded: as the job ended, after the text that came.
    """
    job_id = client.submit({**given, "details": True})
    _say(f"job {job_id}")
    try:
        result = _follow(client, job_id, write or _print)
    except (KeyboardInterrupt, BrokenPipeError):
        raise Cancelled(f"job {job_id} is {client.cancel(job_id)['status']}") from None
    _check(result)
    *_, details = save(client, job_id, result, out)
    _say(f"{summary(result)}; {details}")
    return result


def summary(result: dict[str, Any]) -> str:
    """One line: how many tokens, how fast, and why the text ended."""
    usage, metrics = result.get("usage") or {}, result.get("metrics") or {}
    said = [
        f"{usage['completion_tokens']} tokens" if "completion_tokens" in usage else None,
        f"{metrics['tokens_per_s']:.0f} tokens/s" if "tokens_per_s" in metrics else None,
        result.get("finish_reason"),
    ]
    return ", ".join(part for part in said if part) or "done"


def _follow(client: Client, job_id: str, write: Write) -> dict[str, Any]:
    pieces: list[Any] = []
    with _waiting() as first_has_come, _whole_lines(write) as write_on:
        for piece in client.stream(job_id):
            first_has_come()
            pieces.append(piece)
            if isinstance(piece, str):
                write_on(piece)
        if not pieces:  # of a worker that does not stream
            pieces = client.status(job_id).get("output") or []
            write_on(whole(pieces).get("text", ""))
    return whole(pieces)


@contextmanager
def _waiting() -> Iterator[Callable[[], None]]:
    """Show on a terminal that nothing has come yet."""
    status = console.status("waiting for the first words")
    status.start()
    try:
        yield status.stop
    finally:
        status.stop()


@contextmanager
def _whole_lines(write: Write) -> Iterator[Write]:
    """Ends the last line, also of a text that breaks off."""
    last = [""]

    def write_on(text: str) -> None:
        last[0] = text or last[0]  # before it is written: Ctrl-C may come in between
        write(text)

    try:
        yield write_on
    finally:
        if last[0] and not last[0].endswith("\n"):
            write("\n")


def _print(text: str) -> None:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is buffered goes nowhere at exit
        raise


def _check(result: dict[str, Any]) -> None:
    outputs = (result.get("receipt") or {}).get("outputs") or [{}]
    signed = outputs[0].get("sha256")
    if signed and signed != hashlib.sha256(result["text"].encode()).hexdigest():
        raise DeliveryFailed("the text that came is not the one of which the receipt has the hash; run it again")


def _say(text: str) -> None:
    console.print(text, style="dim", highlight=False, soft_wrap=True)
