"""Inputs: what may be left out, and what is refused before the device is taken."""

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from shared.errors import InvalidInput, JobError, MediaTooLarge
from shared.job import Job
from shared.media.image import encode_image
from shared.media.source import data_url
from shared.runner import Runner
from tests.shared.runners import CHANGE, DRAW, PICTURE_URL, WAIT_S, Events, make, put, run


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        (put("https://example.com/1"), "1 URLs for 2 outputs"),
        (put("http://127.0.0.1:1/a", "http://127.0.0.1:1/b"), "127.0.0.1"),
        (put("ftp://example.com/a", "ftp://example.com/b"), "http"),
        ({"delivery": {"post": []}}, "delivery.post"),
        ({"delivery": "here"}, "delivery"),
    ],
)
def test_a_delivery_that_cannot_work_is_refused_before_anything_runs(
    runner: Runner, asked: dict[str, Any], complaint: str
) -> None:
    events = Events()
    with pytest.raises(InvalidInput, match=complaint):
        run(runner, DRAW, {"num_images_per_prompt": 2}, asked, events=events)
    assert events.seen == []


def test_null_means_default(runner: Runner) -> None:
    nothing = dict.fromkeys(("negative_prompt", "width", "scheduler", "preview", "delivery", "model_id", "loras"))
    assert run(runner, DRAW, nothing)["images"] == run(runner, DRAW)["images"]


def test_the_envelopes_keys_are_not_parameters(runner: Runner) -> None:
    result = run(runner, DRAW, {"details": True, "delivery": {}})
    assert not {"pipeline", "details", "delivery"} & result["receipt"]["params"].keys()


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"num_images_per_prompt": 0}, "num_images_per_prompt: "),
        ({"num_images_per_prompt": 9}, "num_images_per_prompt: .* 8"),
        ({"width": 7}, "width: .*multiple of 8"),
        ({"width": 56}, "width: .* 64"),
        ({"height": 4096}, "height: .* 2048"),
        ({"prompt": None}, "prompt: Field required"),
        ({"prompt": ""}, "prompt: "),
        ({"prompt": ["a"]}, "prompt: "),
        ({"seed": -1}, "seed: "),
        ({"seed": 2**32}, "seed: "),
        ({"num_inference_steps": 1000}, "num_inference_steps: .* 150"),
        ({"guidance_scale": float("nan")}, "guidance_scale: "),
        ({"scheduler": "Magic"}, "scheduler: "),
        ({"image_format": []}, "image_format: "),
        ({"speed": 11}, "speed: there is no such parameter"),
        ({"loras": {"some/lora": 1.0}}, "loras: this version does not load LoRA weights"),
        ({"model_id": "nobody/nothing"}, "'nobody/nothing' is not in this worker's catalog; it has: demo/"),
        ({"model_id": "/etc"}, "'/etc' is not in this worker's catalog"),
        ({"model_id": 5}, "model_id: "),
        ({"pipeline": "music"}, "does not serve 'music'; it serves: text-to-image, image-to-image, trouble, dip"),
        ({"pipeline": ""}, "input.pipeline is missing; this worker serves"),
        ({"pipeline": 5}, "pipeline: "),
        ({"details": "perhaps"}, "details: "),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
def test_a_wrong_input_is_refused_naming_the_field(runner: Runner, wrong: dict[str, Any], complaint: str) -> None:
    events = Events()
    with pytest.raises(InvalidInput, match=complaint):
        run(runner, DRAW, wrong, events=events)
    assert events.seen == []


def test_all_that_is_wrong_is_said_at_once_and_no_value_repeated(runner: Runner) -> None:
    with pytest.raises(InvalidInput) as caught:
        run(runner, DRAW, {"prompt": ["sesame"], "width": 7, "sesame_street": 1})
    assert [error["loc"] for error in caught.value.detail["errors"]] == [["prompt"], ["width"], ["sesame_street"]]
    assert "sesame'" not in json.dumps(caught.value.as_dict())


@pytest.mark.parametrize("given", [{}, [], "text", None, 5], ids=repr)
def test_a_job_without_an_input_is_refused(runner: Runner, given: Any) -> None:
    with pytest.raises(InvalidInput, match="the job has no input"):
        runner.submit(Job("job", given)).result(WAIT_S)
    assert len(runner.backlog) == 0


def big() -> str:
    file = io.BytesIO()
    Image.new("1", (10_000, 10_000)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


@pytest.mark.parametrize(
    ("image", "failure", "complaint"),
    [
        (lambda: "a picture of a cat", InvalidInput, "image: the text is neither"),
        (lambda: base64.b64encode(b"a picture of a cat").decode(), InvalidInput, "not an image"),
        (lambda: "", InvalidInput, "image: the image is empty"),
        (lambda: "file:///etc/passwd", InvalidInput, "image: file: URLs are not read"),
        (lambda: 5, InvalidInput, "image: the image is given as a string"),
        (big, MediaTooLarge, "10000 x 10000 pixels; the limit is 50,000,000"),
    ],
    ids=["text", "bytes of text", "empty", "file URL", "number", "100 megapixels"],
)
def test_what_is_no_picture_is_refused_before_the_device_is_taken(
    runner: Runner, image: Callable[[], Any], failure: type[JobError], complaint: str
) -> None:
    events = Events()
    with pytest.raises(failure, match=complaint):
        run(runner, CHANGE, {"image": image()}, events=events)
    assert events.seen == []


def test_a_file_over_the_limit_is_refused(models: Path) -> None:
    with pytest.raises(MediaTooLarge, match="MAX_MEDIA_BYTES"):
        run(make(models, max_media_bytes=100), {"pipeline": "mirror", "image": PICTURE_URL})


def test_too_few_steps_for_the_strength_are_refused(runner: Runner) -> None:
    with pytest.raises(InvalidInput, match="no step is left to run"):
        run(runner, CHANGE, {"strength": 0.1})


def test_many_pictures_that_are_small_as_files_have_a_limit_together(models: Path) -> None:
    file = encode_image(Image.new("RGB", (1000, 1000)), "png")
    wide = data_url(file, "image/png")
    given = {"pipeline": "workflow", "steps": [{"pipeline": "mirror", "image": wide}] * 6}
    with pytest.raises(MediaTooLarge, match=r"4,000,000 pixels together"):
        run(make(models, max_image_pixels=1_000_000), given)
