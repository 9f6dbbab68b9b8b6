"""The line, the bar and the failures that visitors read."""

from typing import Any

import pytest

from ui import failures, status
from ui.failures import Failure
from ui.follow import View

IDLE = {"idle": 1, "running": 0, "initializing": 0, "throttled": 0}


def view(state: str, waited_s: float = 3.2, health: dict[str, Any] | None = None, **job: Any) -> View:
    return View({"id": "j", "status": state, **job}, waited_s, health)


def running(**told: Any) -> View:
    return view("IN_PROGRESS", output=told)


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        (view("IN_QUEUE"), "Queued 3 s"),
        (view("IN_QUEUE", health={"workers": {**IDLE, "idle": 0}}), "a cold start can take a minute"),
        (view("IN_QUEUE", health={"workers": {**IDLE, "initializing": 1}}), "a worker is starting"),
        (view("IN_QUEUE", health={"workers": {**IDLE, "throttled": 1}}), "no free GPU"),
        (view("IN_QUEUE", health={"workers": {**IDLE, "running": 1}, "jobs": {"inQueue": 4}}), "4 jobs wait"),
        (view("IN_PROGRESS"), "A worker has it"),
        (running(stage="downloading", step=12e8, steps=4e9), "Downloading the model, 1.2 GB of 4.0 GB"),
        (running(stage="running", step=12, steps=30, eta_s=4.4), "Step 12 of 30 · 4 s left"),
        (running(stage="encoding"), "Encoding"),
        (view("COMPLETED", executionTime=125_000), "Done in 2 min 5 s"),
        (View({"status": "IN_QUEUE"}, 5, trouble=Failure("unreachable", "x")), "does not answer; asking again"),
    ],
)
def test_the_line_says_where_the_job_is(seen: View, said: str) -> None:
    assert said in status.line(seen)


def test_the_bar_shows_steps_and_only_what_is_known() -> None:
    assert status.share(running(step=12, steps=30)) == 0.4
    assert status.share(view("IN_QUEUE")) is None
    assert 'aria-valuenow="40"' in status.of_view(running(step=12, steps=30))
    assert "busy" in status.of_view(view("IN_QUEUE"))


def test_what_the_endpoint_says_cannot_become_html() -> None:
    shown = status.of_failure(Failure("internal", "<img src=x onerror=alert(1)>"))
    assert "<img" not in shown
    assert status.preview(running(preview="javascript:alert(1)")) is None
    assert '"' not in str(status.preview(running(preview='data:image/png;base64,"onload="x'))).split("src=")[1][1:30]


@pytest.mark.parametrize(
    ("job", "code", "message"),
    [
        ({"status": "FAILED", "error": "out_of_memory: too large"}, "out_of_memory", "too large"),
        ({"status": "FAILED", "error": "KeyError: 'x'"}, "internal", "KeyError: 'x'"),
        (
            {"status": "FAILED", "error": '{"error_type": "A", "error_message": "b", "error_traceback": "c"}'},
            "internal",
            "b",
        ),
        ({"status": "FAILED"}, "internal", "without saying why"),
        ({"status": "CANCELLED"}, "cancelled", "cancelled"),
        ({"status": "TIMED_OUT", "error": "deadline_exceeded: 600 s"}, "deadline_exceeded", "600 s"),
    ],
)
def test_a_failed_job_says_why(job: dict[str, Any], code: str, message: str) -> None:
    failure = failures.of_job(job)
    assert failure.code == code
    assert message in failure.message
    assert "traceback" not in failure.message


def test_refused_requests_say_what_to_do() -> None:
    full = failures.of_response(429, {"error": "queue_full: 50 jobs wait already"}, "5")
    assert (full.title, full.hint) == ("The queue is full", "Submit again in 5 s.")
    assert failures.of_response(401, None, None).code == "unauthorized"
    assert failures.of_response(502, "bad gateway", None).passing


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0 bytes"), (999, "999 bytes"), (3900, "3.9 kB"), (1.5e12, "1.5 TB"), (3e16, "30000.0 TB")],
)
def test_sizes_are_readable(count: float, words: str) -> None:
    assert status.size(count) == words
