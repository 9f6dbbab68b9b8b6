"""Models whose load never ends: their workers end, and others get the card."""

import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from platforms.local.deployments import Deployment
from platforms.local.seats import Seat
from platforms.local.workers import ROOT, WorkerPool, worker_env
from shared.errors import InsufficientCapacity
from shared.settings import inherited
from tests.platforms.lab import until
from tests.platforms.rack import HANDLERS, FleetLab, Rack
from tests.shared.models.folders import write_files


def test_a_worker_whose_model_does_not_load_ends_and_says_so(tmp_path: Path) -> None:
    model = write_files(tmp_path / "model")
    (model / "slow").touch()
    models = tmp_path / "models.json"
    models.write_text(f'[{{"pipeline": "census", "model_id": "{model}", "warm": true}}]')
    env = worker_env(
        inherited(), "http://127.0.0.1:9/v2/media", "token", tmp_path, ping_interval_ms=1000, files=False
    )
    ended = subprocess.run(
        [sys.executable, "-m", "platforms.runpod.worker"],
        cwd=ROOT,
        env={**env, "RUNPOD_POD_ID": "w", "HANDLERS": str(HANDLERS), "MODELS": str(models), "LOAD_TIMEOUT_S": "0.1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert "loading does not end: this worker does" in ended.stdout + ended.stderr


def test_others_get_the_card_and_what_waits_for_the_model_fails_in_the_end(tmp_path: Path) -> None:
    models: list[dict[str, Any]] = [{"model_id": "hangs", "gpu_memory_gb": 8}, {"model_id": "other"}]
    with FleetLab(tmp_path, Rack(10), models) as lab:
        slow = Path(lab.model("hangs"), "slow")
        Path(lab.model("hangs"), "broken").touch()
        slow.touch()
        stopped, fails = lab.submit("hangs"), lab.submit("hangs")
        (seat,) = until(lambda: lab.seats("hangs"), "it does not start")
        other = lab.submit("other")
        lab.client.cancel(stopped)
        assert lab.status(stopped) == "CANCELLED"
        os.kill(lab.pid("hangs"), signal.SIGKILL)  # as it ends after LOAD_TIMEOUT_S
        until(lambda: seat.pool.failures, "it does not end")
        lab.told(other)
        (again,) = until(lambda: [s for s in lab.seats("hangs") if s is not seat], "it does not come back")
        assert again.pool.failures >= 1  # which count on: else it would have the card for ever, now and then
        slow.unlink()
        with pytest.raises(InsufficientCapacity, match="its worker ends before its first job"):
            lab.client.wait(fails)


def test_a_turn_begins_when_the_model_is_loaded_unless_that_has_failed(tmp_path: Path) -> None:
    pool = WorkerPool(1, {}, tmp_path, on_exit=print, on_stopping=print)
    seat = Seat(Deployment("media"), 0, 1, pool, used_at=100.0)
    assert seat.as_resident("busy", 30).turn_ends_at == math.inf
    pool.failures = 1
    assert seat.as_resident("busy", 30).turn_ends_at == 100.0
    seat.ready_at = 150.0
    assert seat.as_resident("busy", 30).turn_ends_at == 200.0
