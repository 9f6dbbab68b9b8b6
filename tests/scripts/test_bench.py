"""The first worker's bench command, from a folder of its user's."""

import subprocess
import sys
from pathlib import Path

from shared.settings import inherited

SCRIPT = Path(__file__).parents[2] / "scripts" / "bench.py"


def test_it_runs_from_any_folder(tmp_path: Path) -> None:
    args = ["--pipeline", "text-generation", "--model_id", "demo/text-generation", "--runs", "1"]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *args],
        cwd=tmp_path,
        env=inherited(DEVICE="cpu"),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "average inference time per text" in done.stdout
