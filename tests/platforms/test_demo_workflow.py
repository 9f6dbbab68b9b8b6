"""Workflows through a real worker and its endpoint: one job with one id, and what stays when it is cancelled."""

import io
import itertools
import json
import math
import subprocess
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from shared.errors import Cancelled, InvalidInput
from shared.media.frames import VideoLimits
from shared.media.video_file import VideoFile
from templates.demo_models import judge
from templates.demo_models.measure_video import centre
from templates.demo_models.train.shapes import Scene
from tests.platforms.harness import until
from tests.studio import Studio

LIMITS = VideoLimits(10**7, 1000, 100)
RED = "a red circle on a blue background"
DRAW = {"pipeline": "text-to-image", "prompt": RED, "seed": 3, "num_images_per_prompt": 2}
SMOOTHE = {"pipeline": "frame-interpolation", "fps": 2, "target_fps": 24}
ENLARGE = {"pipeline": "upscale", "scale": 2}


def workflow(*steps: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"pipeline": "workflow", "steps": list(steps), **more}


def test_a_prompt_becomes_a_film(studio: Studio, tmp_path: Path) -> None:
    result = studio.client.run({"pipeline": "workflow", "prompt": "a red circle on blue", "seed": 1})
    (video,) = result["videos"]
    file = tmp_path / "film.mp4"
    file.write_bytes(studio.client.download(video["url"]))
    assert ffprobe(file) == {
        "codec_name": "h264",
        "pix_fmt": "yuv420p",
        "width": 128,  # the demo model draws 64 x 64
        "height": 128,
        "avg_frame_rate": "24/1",
        "nb_read_frames": "43",  # 8 frames at 4 a second, and 5 between two of them
    }
    shown = [Image.fromarray(frame.pixels) for frame in VideoFile(file.read_bytes(), LIMITS).frames()]
    seen = [judge.look(picture) for picture in shown]
    assert {(one.colour, one.background) for one in seen} == {("red", "blue")}
    at = [centre(picture, Scene("circle", "red", "blue")) for picture in shown]
    assert math.dist(at[0], at[-1]) > 16
    steps = [math.dist(*pair) for pair in itertools.pairwise(at)]
    assert max(steps) < 6 < 16 < sum(steps) < 2 * math.dist(at[0], at[-1])  # it goes, and does not jump or shake
    assert [step["pipeline"] for step in result["receipt"]["within"]] == [
        "text-to-image",
        "image-to-video",
        "frame-interpolation",
        "upscale",
    ]
    assert [step["params"].get("seed") for step in result["receipt"]["within"]] == [1, 1, None, 1]


def ffprobe(file: Path) -> dict[str, Any]:
    """What a player reads of the file."""
    wanted = "stream=codec_name,pix_fmt,width,height,avg_frame_rate,nb_read_frames"
    command = ["ffprobe", "-v", "error", "-count_frames", "-show_entries", wanted, "-of", "json", str(file)]
    (stream,) = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["streams"]
    return dict(stream)


def test_pictures_become_a_larger_film_in_one_job(studio: Studio) -> None:
    result = studio.client.run(workflow(DRAW, SMOOTHE, ENLARGE))
    film = VideoFile(studio.client.download(result["videos"][0]["url"]), LIMITS)
    shown = [Image.fromarray(frame.pixels) for frame in film.frames()]
    assert (len(shown), float(film.info.fps), shown[0].size) == (13, 24.0, (128, 128))
    assert all(judge.matches(picture, RED) for picture in shown)
    assert [step["pipeline"] for step in result["receipt"]["within"]] == [
        "text-to-image",
        "frame-interpolation",
        "upscale",
    ]


def test_what_is_wrong_with_the_third_step_is_said_before_the_first_runs(studio: Studio) -> None:
    with pytest.raises(InvalidInput, match=r"steps\.2 \(upscale\): scale: "):
        studio.client.run(workflow(DRAW, SMOOTHE, {**ENLARGE, "scale": 9}))


def test_progress_never_goes_back(studio: Studio) -> None:
    shares: list[float] = []

    def see(body: dict[str, Any]) -> None:
        where = body.get("output") or {}
        if where.get("stage") == "running" and "step" in where:
            shares.append(where["step"] / where["steps"])

    studio.client.wait(studio.client.submit(workflow(DRAW, SMOOTHE, ENLARGE)), on_progress=see)
    assert shares == sorted(shares)


def test_progress_of_the_whole_chain_is_told_again_from_the_endpoint(studio: Studio) -> None:
    job = studio.client.submit(workflow(DRAW, SMOOTHE, ENLARGE))
    studio.client.wait(job)
    told = [event["progress"] for event in studio.client.events(job)]
    assert [each["seq"] for each in told] == sorted(each["seq"] for each in told)
    shares = [each["step"] / each["steps"] for each in told if each["stage"] == "running" and "step" in each]
    assert len(shares) > 3
    assert shares == sorted(shares)
    assert told == [event["progress"] for event in studio.client.events(job)]


def test_what_a_step_made_stays_when_the_job_is_cancelled_in_the_next(studio: Studio) -> None:
    slow = {**SMOOTHE, "target_fps": None, "in_between": 15}
    job = studio.client.submit(workflow(DRAW, slow, slow | {"images": ["$steps.0.images.0"] * 300}, keep=True))

    def kept() -> list[dict[str, Any]]:
        where = studio.client.status(job).get("output")
        told: list[dict[str, Any]] = (where or {}).get("kept", []) if isinstance(where, dict) else []
        return told

    until(lambda: kept() or studio.client.status(job)["status"] == "COMPLETED", 60)
    studio.client.cancel(job)
    with pytest.raises(Cancelled):
        studio.client.wait(job)
    first = kept()[0]
    assert (first["step"], first["pipeline"]) == (0, "text-to-image")
    pictures = [Image.open(io.BytesIO(studio.client.download(image["url"]))) for image in first["images"]]
    assert [judge.matches(picture, RED) for picture in pictures] == [True, True]
    assert studio.client.run({"pipeline": "text-to-image", "prompt": RED})["images"]
