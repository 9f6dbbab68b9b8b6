"""docs/your-own-pipeline.md: the pipeline that it builds works, here and through a RunPod worker."""

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

from PIL import Image

import handlers
from shared.job import Job
from shared.runner import Runner
from shared.settings import Settings, inherited
from templates.demo_models import judge
from tests.studio import PAGE, ROOT, Studio, demo_models, write_page_handler

PROMPT = "a red circle on a blue background"
INPUT: dict[str, Any] = {"pipeline": "contact-sheet", "prompt": PROMPT, "columns": 2, "rows": 1, "seed": 5}


def cells(file: bytes) -> list[Image.Image]:
    sheet = Image.open(io.BytesIO(file))
    assert sheet.size == (128, 64)
    return [sheet.crop((x, 0, x + 64, 64)) for x in (0, 64)]


def test_the_page_builds_a_pipeline_of_about_thirty_lines(tmp_path: Path) -> None:
    (file,) = write_page_handler(tmp_path).glob("*.py")
    assert file.name == "contact_sheet.py"
    assert len([line for line in file.read_text().splitlines() if line.strip()]) <= 30


def test_it_runs_in_this_process(tmp_path: Path, studio: Studio) -> None:
    """Also on a worker that serves nothing else: what it runs inside is not what clients may ask for."""
    env = {"HANDLERS": str(write_page_handler(tmp_path)), "MODELS": str(demo_models(tmp_path))}
    env["PIPELINE"] = INPUT["pipeline"]
    settings = Settings.from_env(env)
    runner = Runner(settings, handlers.Folders(settings.handlers))
    result: dict[str, Any] = runner.submit(Job("here", INPUT)).result(timeout=120)
    for cell in cells(studio.client.download(result["images"][0]["url"])):
        assert judge.matches(cell, PROMPT)


def test_it_runs_through_a_runpod_worker(studio: Studio) -> None:
    result = studio.client.run(INPUT)
    for cell in cells(studio.client.download(result["images"][0]["url"])):
        assert judge.matches(cell, PROMPT)
    assert result["receipt"]["pipeline"] == "contact-sheet"


def test_the_sdk_runs_it_as_the_page_says(tmp_path: Path) -> None:
    folder = write_page_handler(tmp_path)
    assert "--test_input" in PAGE.read_text()
    job = '{"input": {"pipeline": "contact-sheet", "prompt": "a red circle on a blue background", "rows": 1}}'
    done = subprocess.run(
        [sys.executable, "-m", "platforms.runpod.worker", "--test_input", job],
        env=inherited(HANDLERS=str(folder), MODEL_ID="demo/text-to-image"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "completed successfully" in done.stdout
