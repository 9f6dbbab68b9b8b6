"""SIGTERM: what runs is answered, what comes is sent elsewhere, and the exit code is 0."""

import signal
from pathlib import Path

from tests.platforms.container.box import Box, Process, until_written
from tests.platforms.harness import until


def test_sigterm_answers_what_runs_and_what_waits_and_refuses_what_comes(tmp_path: Path) -> None:
    diary, gate = tmp_path / "diary", tmp_path / "gate"
    with Process(tmp_path) as container:
        container.until_ready()
        running = container.later("/tell", {"gate": str(gate), "name": "a", "diary": str(diary)})
        until_written(diary, "a start")
        waiting = container.later("/sleep", {"ms": 1})
        until(lambda: 'waiting":1' in container.get("/capabilities").text)
        container.signal(signal.SIGTERM)
        until(lambda: (container.health() or {})["draining"])
        refused = container.post("/sleep", {"ms": 1})
        assert (refused.status_code, refused.json()["detail"]["code"]) == (503, "insufficient_capacity")
        assert int(refused.headers["Retry-After"]) >= 1
        assert container.get("/ping").status_code == 503
        gate.touch()
        assert running.result(20).json()["text"] == "one two three"
        assert waiting.result(20).status_code == 200
        assert container.exit_code() == 0


def test_what_is_not_done_in_time_is_cancelled_and_told_to_come_again(tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    with Box(tmp_path, drain_s=0.05) as box:
        running = box.later("/sleep", {"ms": 60_000, "steps": 6000, "name": "a", "diary": str(diary)})
        until_written(diary, "a start")
        waiting = box.later("/sleep", {"ms": 1})
        until(lambda: box.server.performer.inside() == 2)
        box.stop()
        for answer in (running.result(20), waiting.result(20)):
            assert (answer.status_code, answer.json()["detail"]["code"]) == (503, "insufficient_capacity")
        assert box.ended() == 0
    assert "a end" in diary.read_text()


def test_a_second_signal_does_not_wait(tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    with Box(tmp_path, drain_s=600) as box:
        running = box.later("/sleep", {"ms": 60_000, "steps": 6000, "name": "a", "diary": str(diary)})
        until_written(diary, "a start")
        box.stop()
        until(lambda: box.server.health.is_draining)
        box.stop()
        assert running.result(20).status_code == 503
        assert box.ended() == 0


def test_an_idle_container_ends_at_once(tmp_path: Path) -> None:
    with Box(tmp_path) as box:
        box.stop()
        assert box.ended() == 0


def test_a_job_that_hangs_ends_the_process_and_not_only_its_server(tmp_path: Path) -> None:
    with Process(tmp_path, JOB_TIMEOUT_S="0.1", HANG_S="0.1") as container:
        container.until_ready()
        stuck = container.later("/tell", {"gate": str(tmp_path / "gate"), "deaf": True, "hold": 0})
        assert stuck.result(30).status_code == 504
        assert container.exit_code() == 1


def test_even_one_whose_job_does_not_stop_ends(tmp_path: Path) -> None:
    """The job keeps its thread; the process does not wait for it."""
    with Process(tmp_path, DRAIN_S="0.1") as container:
        container.until_ready()
        gate, diary = tmp_path / "gate", tmp_path / "diary"
        stuck = container.later(
            "/tell", {"gate": str(gate), "deaf": True, "hold": 0, "name": "a", "diary": str(diary)}
        )
        until_written(diary, "a start")
        container.signal(signal.SIGTERM)
        assert stuck.result(20).status_code == 503
        assert container.exit_code() == 0
