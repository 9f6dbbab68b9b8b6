"""Text on the command line: real processes, real signals, and an endpoint of its own beside that of pictures."""

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.errors import InvalidInput
from shared.models import catalog
from tests.platforms.lab import until
from tests.platforms.terminal import PILOTLIGHT, ROOT, Terminal, Up

TELL = Path(__file__).parent / "text_handlers"
QUESTION = [{"role": "user", "content": "How many corners has a square?"}]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Terminal, Up]]:
    """Endpoint `media` with a pipeline that sleeps, and `text-generation` with the demo model."""
    text = [e.model_dump(mode="json") for e in catalog.read(catalog.BUILT_IN) if e.model_id == "demo/text-generation"]
    terminal = Terminal(tmp_path_factory.mktemp("both"), models=text)
    up = Up(terminal)
    yield terminal, up
    up.end(signal.SIGTERM)


@pytest.fixture(scope="module")
def telling(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Terminal, Up]]:
    """Endpoint `text-generation` alone, with a pipeline that says what it is told and waits for files."""
    terminal = Terminal(tmp_path_factory.mktemp("telling"), TELL)
    terminal.env["PIPELINE"] = "text-generation"
    up = Up(terminal)
    yield terminal, up
    up.end(signal.SIGTERM)


class TestTwoEndpoints:
    def test_one_up_serves_and_records_both(self, both: tuple[Terminal, Up]) -> None:
        terminal, up = both
        assert up.said["endpoints"] == ["media", "text-generation"]
        at = {"url": up.said["url"], "key": up.said["key"]}
        recorded = json.loads(terminal.record.read_text())
        assert recorded == [{"name": "media", **at}, {"name": "text-generation", **at}]

    def test_each_serves_its_own_pipelines_only(self, both: tuple[Terminal, Up]) -> None:
        _, up = both
        with up.client_of("media") as media, pytest.raises(InvalidInput, match="does not serve 'text-generation'"):
            media.run({"pipeline": "text-generation", "messages": QUESTION})
        with up.client_of("text-generation") as text, pytest.raises(InvalidInput, match="does not serve 'sleep'"):
            text.run({"pipeline": "sleep", "ms": 1})

    def test_run_finds_the_endpoint_of_each_pipeline(self, both: tuple[Terminal, Up]) -> None:
        terminal, _ = both
        out = ("--out", str(terminal.folder / "out"))
        assert terminal.run("run", "sleep", "--param", "ms=1", *out).returncode == 0
        said = terminal.run("run", "text-generation", "--param", f"messages={json.dumps(QUESTION)}", *out)
        assert said.returncode == 0, said.stderr
        assert said.stdout == "A square has four corners.\n"

    def test_a_job_that_was_left_is_taken_up_where_it_is(self, both: tuple[Terminal, Up]) -> None:
        terminal, _ = both
        given = ("run", "text-generation", "--param", f"messages={json.dumps(QUESTION)}")
        job = terminal.run(*given, "--detach").stdout.strip()
        said = terminal.run("wait", job, "--out", str(terminal.folder / "out"))
        assert said.stdout == "A square has four corners.\n", said.stderr
        assert json.loads((terminal.folder / "out" / f"{job}.json").read_text())["receipt"]["job_id"] == job

    def test_a_prompt_can_come_with_other_parameters(self, both: tuple[Terminal, Up]) -> None:
        terminal, _ = both
        given = ("--prompt", QUESTION[0]["content"], "--param", "system=You know shapes and colours.")
        said = terminal.run("run", "text-generation", *given, "--out", str(terminal.folder / "out"))
        assert said.stdout == "A square has four corners.\n", said.stderr

    def test_the_result_and_its_receipt_are_saved_and_summed_up(self, both: tuple[Terminal, Up]) -> None:
        terminal, _ = both
        out = terminal.folder / "saved"
        said = terminal.run(
            "run", "text-generation", "--param", f"messages={json.dumps(QUESTION)}", "--out", str(out)
        )
        (file,) = out.iterdir()
        result = json.loads(file.read_text())
        assert result["text"] == said.stdout.strip()
        assert result["receipt"]["model"]["id"] == "demo/text-generation"
        assert f"{result['usage']['completion_tokens']} tokens, " in said.stderr
        assert f"tokens/s, stop; {file}" in said.stderr

    def test_status_and_cancel_find_a_job_of_either(self, both: tuple[Terminal, Up]) -> None:
        terminal, up = both
        with up.client_of("text-generation") as text:
            job = text.submit({"messages": QUESTION, "details": True})
            text.wait(job)
        shown = json.loads(terminal.run("status", job).stdout)
        assert shown["output"]["text"] == "A square has four corners."
        assert shown["output"]["finish_reason"] == "stop"
        assert terminal.run("cancel", job).stdout.strip() == "COMPLETED"
        unknown = terminal.run("status", "x")
        assert (unknown.returncode, "not_found" in unknown.stderr) == (1, True)


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(telling: tuple[Terminal, Up]) -> Iterator[Start]:
    """`pilotlight run text-generation` with parameters, in another process."""
    terminal, _ = telling
    started: list[subprocess.Popen[str]] = []

    def start(**params: Any) -> "subprocess.Popen[str]":
        given = [part for name, value in params.items() for part in ("--param", f"{name}={json.dumps(value)}")]
        started.append(terminal.start("run", "text-generation", *given, "--out", str(terminal.folder / "out")))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate() if process.stdout and not process.stdout.closed else process.wait()


def read(process: "subprocess.Popen[str]", count: int = -1) -> str:
    assert process.stdout is not None
    return process.stdout.read(count)


def none_runs(up: Up) -> bool:
    return bool(up.client.health()["jobs"]["inProgress"] == 0)


def test_up_says_where_and_what_to_try(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path, TELL)
    command = [*PILOTLIGHT, "up", "--port", "0", "--data", str(tmp_path / "data")]
    env = {**terminal.env, "PIPELINE": "text-generation"}
    with subprocess.Popen(command, env=env, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = [process.stderr.readline() for _ in range(5)]
        process.send_signal(signal.SIGINT)
        process.stderr.read()
    assert said[1].startswith("ready: http://127.0.0.1:")
    assert said[1].endswith("/v2/text-generation\n")
    assert said[2] == f"OpenAI's API: {said[1].split()[1]}/openai/v1\n"
    assert said[4].startswith("try:   pilotlight run text-generation")


class TestAsItIsWritten:
    def test_pipeline_leaves_one_endpoint(self, telling: tuple[Terminal, Up]) -> None:
        assert telling[1].said["endpoints"] == ["text-generation"]

    def test_text_is_printed_before_the_job_ends(
        self, telling: tuple[Terminal, Up], start: Start, tmp_path: Path
    ) -> None:
        _, up = telling
        process = start(gate=str(tmp_path / "gate"))
        assert read(process, 4) == "one "
        assert up.client.health()["jobs"]["inProgress"] == 1
        (tmp_path / "gate").touch()
        assert read(process) == "two three\n"
        assert process.wait(30) == 0

    def test_ctrl_c_cancels_the_job(self, telling: tuple[Terminal, Up], start: Start, tmp_path: Path) -> None:
        _, up = telling
        process = start(gate=str(tmp_path / "never"))
        assert read(process, 4) == "one "
        process.send_signal(signal.SIGINT)
        assert (process.wait(30), read(process)) == (1, "\n")
        until(lambda: none_runs(up), "the job goes on")

    def test_a_reader_that_leaves_cancels_the_job(
        self, telling: tuple[Terminal, Up], start: Start, tmp_path: Path
    ) -> None:
        _, up = telling
        process = start(gate=str(tmp_path / "gate"), times=2)
        assert read(process, 4) == "one "
        assert process.stdout is not None
        process.stdout.close()
        (tmp_path / "gate").touch()
        assert process.wait(30) == 1
        until(lambda: none_runs(up), "the job goes on")

    def test_a_job_that_fails_says_why_after_its_text(self, telling: tuple[Terminal, Up]) -> None:
        terminal, _ = telling
        done = terminal.run("run", "text-generation", "--param", "fail=so", "--param", 'pieces=["a", "b"]')
        assert (done.returncode, done.stdout) == (1, "ab\n")
        assert "internal: an error of this worker" in done.stderr
        assert "Traceback" not in done.stderr

    def test_a_whole_text_is_printed_too(self, telling: tuple[Terminal, Up]) -> None:
        terminal, _ = telling
        done = terminal.run(
            "run", "text-generation", "--param", "stream=false", "--out", str(terminal.folder / "out")
        )
        assert done.stdout == "one two three\n", done.stderr

    def test_a_worker_lost_in_mid_text_is_said(
        self, telling: tuple[Terminal, Up], start: Start, tmp_path: Path
    ) -> None:
        _, up = telling
        gate = tmp_path / "gate"
        process = start(gate=str(gate))
        assert read(process, 4) == "one "
        for pid in up.children():
            os.kill(pid, signal.SIGKILL)
        assert (read(process), process.wait(60)) == ("\n", 1)
        gate.touch()
        until(lambda: none_runs(up), "the job did not run again")
