"""A job followed from the terminal: submitted, shown step by step, saved, or cancelled by Ctrl-C."""

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from rich import filesize
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from shared.errors import Cancelled
from shared.jobs.client import Client

console = Console(stderr=True)
Show = Callable[[dict[str, Any]], None]


def run_job(
    client: Client, given: dict[str, Any], out: Path, watch: Callable[[], AbstractContextManager[Show]] | None = None
) -> list[Path]:
    """Submit, show and save one job; returns the files. `watch` shows the bodies of `/status`, by default as a bar.

    Raises:
        JobError, Cancelled, DeadlineExceeded: as the job ended.
    """
    job_id = client.submit(given)
    console.print(f"job {job_id}", highlight=False)
    try:
        output = _watched(client, job_id, watch or _bar)
    except KeyboardInterrupt:
        ended = client.cancel(job_id)
        raise Cancelled(f"job {job_id} is {ended['status']}") from None
    return save(client, job_id, output, out)


def follow(client: Client, job_id: str, out: Path) -> list[str]:
    """Show and save a job that was submitted before; returns the names of the files, or the text.

    Raises:
        JobError, Cancelled, DeadlineExceeded: as the job ended.
    """
    output = _watched(client, job_id, _bar)
    files = save(client, job_id, output, out)
    text = whole(output).get("text")
    return [str(file) for file in files] if text is None else [text]


def _watched(client: Client, job_id: str, watch: Callable[[], AbstractContextManager[Show]]) -> Any:
    with watch() as show:
        output = client.wait(job_id, on_progress=show)
        show({"status": "COMPLETED"})
    return output


def save(client: Client, job_id: str, output: Any, out: Path) -> list[Path]:
    """Write the images and videos and, beside them, the result with its receipt."""
    out.mkdir(parents=True, exist_ok=True)
    result = whole(output)
    files = []
    for n, made in enumerate([*result.get("images", []), *result.get("videos", [])]):
        files.append(out / f"{job_id}-{n}.{_extension(made['url'])}")
        files[-1].write_bytes(client.download(made["url"]))
    details = out / f"{job_id}.json"
    details.write_text(json.dumps(without_pictures(result), indent=2))
    return [*files, details]


def whole(output: Any) -> dict[str, Any]:
    """A result as one object: pieces of text are joined, and the details that follow them stand beside it."""
    if isinstance(output, Mapping):
        return dict(output)
    pieces = output if isinstance(output, list) else [] if output is None else [output]
    details = {name: value for piece in pieces if isinstance(piece, Mapping) for name, value in piece.items()}
    return {"text": "".join(piece for piece in pieces if isinstance(piece, str)), **details}


def readable(job: dict[str, Any]) -> Any:
    """The body of `/status` for a person: text in one, pictures as their sizes."""
    pieces = job["output"] if isinstance(job.get("output"), list) else None
    return without_pictures({**job, "output": whole(pieces)} if pieces is not None else job)


def without_pictures(body: Any) -> Any:
    """The JSON with its data URLs replaced by their kind and size."""
    if isinstance(body, dict):
        return {k: without_pictures(v) for k, v in body.items()}
    if isinstance(body, list):
        return [without_pictures(v) for v in body]
    if isinstance(body, str) and body.startswith("data:"):
        return f"{body.partition(',')[0]},... ({len(body)} characters)"
    return body


def how_far(where: Mapping[str, Any]) -> str:
    """The place in a stage as a person reads it: steps, or bytes while a model is downloaded; empty if not known."""
    step, steps = where.get("step") or 0, where.get("steps")
    if not steps:
        return ""
    if where.get("stage") != "downloading":
        return f"step {step}/{steps}"
    unit, name = filesize.pick_unit_and_suffix(steps, ["bytes", "kB", "MB", "GB", "TB"], 1000)
    digits = 0 if unit == 1 else 1
    return f"{step / unit:.{digits}f} of {steps / unit:.{digits}f} {name}"


def _extension(url: str) -> str:
    path = url.partition(";")[0] if url.startswith("data:") else url.partition("?")[0]
    return path.replace("/", ".").split(".")[-1]


class _bar:  # noqa: N801 reads as a statement
    """A progress bar that is fed with the bodies of `/status`."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[steps]}"),
            TimeElapsedColumn(),
            console=console,
        )

    def __enter__(self) -> Show:
        self._progress.start()
        self._task = self._progress.add_task("queued", total=None, steps="")
        return self._show

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def _show(self, body: dict[str, Any]) -> None:
        if body.get("status") == "COMPLETED":
            self._progress.update(self._task, description="completed", total=1, completed=1, steps="")
            return
        where = body.get("output") if body.get("status") == "IN_PROGRESS" else None
        if not isinstance(where, dict):
            self._progress.update(self._task, description=str(body.get("status", "")).lower().replace("_", " "))
            return
        self._progress.update(
            self._task,
            description=where.get("stage", "running"),
            completed=where.get("step") or 0,
            total=where.get("steps"),
            steps=how_far(where),
        )
