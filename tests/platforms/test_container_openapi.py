"""`pilotlight openapi`: the document that is checked in, from any folder."""

import subprocess
import sys
from pathlib import Path

from shared.settings import inherited

ROOT = Path(__file__).parents[2]


def test_it_prints_the_document_that_is_checked_in_whatever_the_environment_says(tmp_path: Path) -> None:
    env = inherited(PIPELINE="upscale", AUTH_TOKEN="key", MODELS="/nowhere/models.json")
    command = [sys.executable, "-X", "importtime", "-m", "platforms.cli", "openapi"]
    env["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == (ROOT / "openapi.json").read_text()
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "pydantic" in imported
    assert not imported & {"torch", "diffusers", "transformers"}
