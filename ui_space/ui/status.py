"""The line, the bar and the picture that say where a job is."""

import html
from typing import Any

from ui.failures import Failure
from ui.follow import View

STAGES = {
    "queued": "Waiting for the GPU",
    "downloading": "Downloading the model",
    "loading": "Loading the model",
    "running": "Running",
    "encoding": "Encoding",
    "delivering": "Delivering",
}
UNITS = ("bytes", "kB", "MB", "GB", "TB")
READY = "Ready."


def line(view: View) -> str:
    """Where the job is, in one line."""
    if view.trouble:
        return f"The endpoint does not answer; asking again ({seconds(view.waited_s)})"
    status = view.job["status"]
    if status == "IN_QUEUE":
        return " · ".join(part for part in (f"Queued {seconds(view.waited_s)}", workers(view.health)) if part)
    if status == "IN_PROGRESS":
        return " · ".join(part for part in (_stage(view), _left(view)) if part)
    return f"Done in {seconds(view.job['executionTime'] / 1000)}" if view.job.get("executionTime") else "Done"


def workers(health: dict[str, Any] | None) -> str:
    """What the workers are about, for somebody who waits for one; empty where that is not known."""
    counts = (health or {}).get("workers")
    if not isinstance(counts, dict):
        return ""
    waiting = (health or {}).get("jobs", {}).get("inQueue", 0)
    if counts.get("initializing"):
        return "a worker is starting"
    if counts.get("throttled"):
        return "the cloud has no free GPU of this kind right now"
    if counts.get("running"):
        return f"{waiting} jobs wait" if waiting > 1 else "the worker is busy"
    return "" if counts.get("idle") or counts.get("ready") else "no worker is running: a cold start can take a minute"


def progress(view: View) -> dict[str, Any]:
    """What the worker last reported, while the job runs."""
    told = view.job.get("output") if view.job["status"] == "IN_PROGRESS" else None
    return told if isinstance(told, dict) else {}


def _stage(view: View) -> str:
    told = progress(view)
    stage = STAGES.get(told.get("stage", ""), "Running" if told else "A worker has it")
    step, steps = told.get("step"), told.get("steps")
    if step is None or not steps:
        return stage
    if told.get("stage") == "downloading":
        return f"{stage}, {size(step)} of {size(steps)}"
    return f"Step {step} of {steps}" if told.get("stage") == "running" else f"{stage}, {step} of {steps}"


def _left(view: View) -> str:
    eta_s = progress(view).get("eta_s")
    return f"{seconds(eta_s)} left" if eta_s is not None else seconds(view.waited_s)


def share(view: View) -> float | None:
    """How much of the job is done, 0 to 1; None where nobody knows."""
    told = progress(view)
    if view.ended:
        return 1.0
    return min(1.0, told["step"] / told["steps"]) if told.get("step") is not None and told.get("steps") else None


def block(text: str, done: float | None = None, *, busy: bool = False) -> str:
    """The line over its bar, which always has the same height."""
    value = f"{100 * done:.0f}" if done is not None else ""
    kind = "busy" if busy and done is None else ""
    bar = f'role="progressbar" aria-label="Progress" aria-valuemin="0" aria-valuemax="100" aria-valuenow="{value}"'
    return (
        f'<div class="job-status"><p role="status">{html.escape(text)}</p>'
        f'<div class="job-bar {kind}" {bar}><i style="width:{value or 0}%"></i></div></div>'
    )


def of_view(view: View) -> str:
    """The block of a look at a job."""
    return block(line(view), share(view), busy=not view.ended)


def of_failure(failure: Failure) -> str:
    """What went wrong, what the endpoint says of it, and what to do."""
    kind = "stopped" if failure.code == "cancelled" else "failed"
    return (
        f'<div class="job-status {kind}" role="alert"><p><b>{html.escape(failure.title)}.</b> '
        f"{html.escape(failure.message)}</p><p>{html.escape(failure.hint)}</p></div>"
    )


def preview(view: View) -> str | None:
    """The small picture that the job sent, as HTML; None where it sent none."""
    url = progress(view).get("preview")
    if not isinstance(url, str) or not url.startswith("data:image/"):
        return None
    return stage(f'<img src="{html.escape(url)}" alt="Preview of the picture that is being made">')


def stage(inside: str = "") -> str:
    """The place where pictures appear, of one height whatever is in it."""
    return f'<div class="job-stage">{inside}</div>'


def seconds(value: float) -> str:
    """`3 s`, `2 min 5 s`; `0.4 s` below a second."""
    if value < 1:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def size(count: float) -> str:
    """Bytes as a person reads them."""
    unit = 0
    while count >= 1000 and unit < len(UNITS) - 1:
        count, unit = count / 1000, unit + 1
    return f"{count:.1f} {UNITS[unit]}" if unit else f"{count:.0f} bytes"
