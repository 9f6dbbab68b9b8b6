"""The command line, as its user runs it: real processes, real signals."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.platforms.lab import HANDLERS, is_gone, until
from tests.platforms.terminal import ROOT, Terminal, Up


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    return Terminal(tmp_path)


@pytest.fixture
def up(terminal: Terminal) -> Iterator[Up]:
    up = Up(terminal)
    yield up
    up.end(signal.SIGTERM)


def test_help_imports_nothing_that_takes_long() -> None:
    heavy = ["torch", "diffusers", "fastapi", "pydantic", "requests", "runpod", "PIL", "numpy"]
    code = f"import sys, platforms.cli; sys.exit(' '.join(m for m in {heavy} if m in sys.modules) or None)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_up_says_where_in_one_line_and_records_it_for_its_user_only(terminal: Terminal, up: Up) -> None:
    assert up.said["endpoints"] == ["media"]
    assert up.said["url"].startswith("http://127.0.0.1:")
    assert terminal.record.stat().st_mode & 0o777 == 0o600
    (recorded,) = json.loads(terminal.record.read_text())
    assert recorded == {"name": "media", "url": up.said["url"], "key": up.said["key"]}


def test_run_finds_the_last_up_and_saves_the_result(terminal: Terminal, up: Up) -> None:
    done = terminal.run("run", "sleep", "--param", "ms=20", "--out", str(terminal.folder / "out"))
    assert done.returncode == 0, done.stderr
    saved = Path(done.stdout.strip())
    assert json.loads(saved.read_text())["receipt"]["params"]["ms"] == 20


def test_a_failed_job_is_one_line_and_exit_code_1(terminal: Terminal, up: Up) -> None:
    done = terminal.run("run", "sleep", "--param", "ms=-1")
    assert done.returncode == 1
    assert "invalid_input: ms: Input should be greater than or equal to 0" in done.stderr
    assert "Traceback" not in done.stderr


def test_status_and_cancel_by_id(terminal: Terminal, up: Up) -> None:
    job = up.client.submit({"pipeline": "sleep", "ms": 60_000, "steps": 1200})
    until(lambda: up.client.status(job)["status"] == "IN_PROGRESS", "the job was not taken")
    assert json.loads(terminal.run("status", job).stdout)["status"] == "IN_PROGRESS"
    assert terminal.run("cancel", job).stdout.strip() == "CANCELLED"
    assert json.loads(terminal.run("status", job).stdout)["status"] == "CANCELLED"


def test_ctrl_c_cancels_the_job(terminal: Terminal, up: Up) -> None:
    given = [
        "--param",
        "ms=60000",
        "--param",
        "steps=1200",
        "--param",
        f"diary={terminal.diary}",
        "--param",
        "name=long",
    ]
    process = terminal.start("run", "sleep", *given)
    until(lambda: terminal.starts("long"), "the job did not start")
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 1
    assert process.stdout is not None
    process.stdout.close()
    until(lambda: up.client.health()["jobs"]["inProgress"] == 0, "the job goes on")
    until(lambda: "long end" in terminal.diary.read_text(), "the device is still busy")


def test_an_endpoint_by_url_takes_its_key_from_a_named_variable(terminal: Terminal, up: Up) -> None:
    url = f"{up.said['url']}/media"
    terminal.record.unlink()
    given = ["run", "sleep", "--param", "ms=1", "--endpoint", url, "--out", str(terminal.folder / "out")]
    assert terminal.run(*given, "--key-env", "MY_KEY", MY_KEY=up.said["key"]).returncode == 0
    assert terminal.run(*given, PILOTLIGHT_API_KEY=up.said["key"]).returncode == 0
    refused = terminal.run(*given, PILOTLIGHT_API_KEY="wrong")
    assert refused.returncode == 1
    assert "unauthorized" in refused.stderr
    keyless = terminal.run(*given)
    assert keyless.returncode == 1
    assert "--key-env" in keyless.stderr


def test_without_an_endpoint_the_command_says_how_to_get_one(terminal: Terminal) -> None:
    done = terminal.run("run", "sleep")
    assert done.returncode == 1
    assert "pilotlight up" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_stop_everything_that_up_started(terminal: Terminal, number: signal.Signals) -> None:
    up = Up(terminal)
    children = up.children()
    assert children
    up.end(number)
    assert up.process.returncode == 0
    until(lambda: all(is_gone(pid) for pid in children), "a worker goes on")


def test_kill_9_of_up_loses_no_job(terminal: Terminal) -> None:
    """Ten jobs queued, one running: after a restart all complete, those that had not started run exactly once."""
    up = Up(terminal)
    children, key = up.children(), {"diary": str(terminal.diary), "pipeline": "sleep"}
    running = up.client.submit({**key, "name": "running", "ms": 2000, "steps": 40})
    until(lambda: "output" in up.client.status(running), "the job did not start")
    queued = {f"queued-{n}": up.client.submit({**key, "name": f"queued-{n}", "ms": 20}) for n in range(10)}
    os.kill(up.process.pid, signal.SIGKILL)
    up.end(signal.SIGKILL)
    until(lambda: all(is_gone(pid) for pid in children), "a worker outlived its endpoint")

    with (terminal.folder / "data" / "key").open("a") as file:
        file.write("\n")  # as an editor does
    again = Up(terminal)
    assert (again.said["key"], (terminal.folder / "data" / "key").stat().st_mode & 0o777) == (up.said["key"], 0o600)
    for job in [running, *queued.values()]:
        again.client.wait(job)
    assert {name: terminal.starts(name) for name in queued} == dict.fromkeys(queued, 1)
    assert terminal.starts("running") == 2
    assert again.client.status(running)["retries"] == 1
    again.end(signal.SIGTERM)


def test_a_second_up_on_the_same_data_refuses_to_start(terminal: Terminal, up: Up) -> None:
    done = terminal.run("up", "--port", "0", "--data", str(terminal.folder / "data"))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def test_a_signal_while_up_starts_stops_it_at_once(terminal: Terminal) -> None:
    (terminal.folder / "never.py").write_text("import time\ntime.sleep(600)\n")
    terminal.env["HANDLERS"] = str(terminal.folder)
    process = terminal.start("up", "--json", "--port", "0", "--data", str(terminal.folder / "data"))
    logs = terminal.folder / "data" / "logs"
    until(lambda: logs.is_dir() and any(logs.iterdir()), "no worker was started")
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 130
    assert process.stdout is not None
    assert process.stdout.read() == ""
    process.stdout.close()


def test_folders_may_be_named_from_where_the_command_is_run(terminal: Terminal) -> None:
    mine = terminal.folder / "elsewhere" / "mine"
    mine.mkdir(parents=True)
    (mine / "doze.py").write_text((HANDLERS / "sleep.py").read_text())
    terminal.env |= {"HANDLERS": "mine", "PYTHONPATH": str(ROOT)}
    terminal.cwd = mine.parent
    up = Up(terminal)
    try:
        assert "receipt" in up.client.run({"pipeline": "doze", "ms": 1})
    finally:
        up.end(signal.SIGTERM)


def test_a_mistyped_pipeline_keeps_the_worker_from_starting(terminal: Terminal) -> None:
    done = terminal.run("up", "--port", "0", "--data", str(terminal.folder / "data"), PIPELINE="slepe")
    assert done.returncode == 1
    assert "no pipeline 'slepe'; there are:" in done.stderr


def test_a_taken_port_is_said_in_one_line(terminal: Terminal, up: Up) -> None:
    port = up.said["url"].split(":")[2].split("/")[0]
    done = terminal.run("up", "--port", port, "--data", str(terminal.folder / "other"))
    assert done.returncode == 1
    assert f"port {port} cannot be used" in done.stderr
    assert "Traceback" not in done.stderr
