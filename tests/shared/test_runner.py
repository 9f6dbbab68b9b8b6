"""The runner: from a job's input to its result, with the real handlers on real checkpoints."""

import base64
import hashlib
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from PIL import Image, ImageOps

from shared import receipts
from shared.errors import Cancelled, DeadlineExceeded, InvalidInput, ModelUnavailable, NotFound, ResultTooLarge
from shared.job import Job, Progress
from shared.media.image import encode_image, pixels_sha256
from shared.media.source import data_url
from shared.runner import Runner
from tests.clock import Clock
from tests.shared.media.loopback import Loopback, loopback, reply
from tests.shared.runners import (
    CHANGE,
    DEMO,
    DRAW,
    PAINT,
    PICTURE,
    PICTURE_URL,
    PROMPT,
    SMALL,
    WAIT_S,
    Events,
    make,
    picture,
    put,
    run,
)


def psnr(one: Image.Image, other: Image.Image) -> float:
    difference = np.asarray(one, np.float64) - np.asarray(other, np.float64)
    return float(10 * np.log10(255**2 / max(float(np.mean(difference**2)), 1e-9)))


def test_a_result_holds_pictures_metrics_and_a_receipt(runner: Runner) -> None:
    result = run(runner, DRAW, {"num_images_per_prompt": 2})
    assert result.keys() == {"images", "metrics", "receipt"}
    assert [image.keys() for image in result["images"]] == [{"url", "seed", "nsfw"}] * 2
    assert [(image["seed"], image["nsfw"]) for image in result["images"]] == [(11, False), (12, False)]
    assert picture(result).size == (64, 64)
    timed = {"fetch_s", "queue_s", "load_s", "run_s", "encode_s", "deliver_s", "longest_piece_s"}
    assert timed <= result["metrics"].keys()
    assert all(result["metrics"][name] >= 0 for name in timed)
    assert result["metrics"]["peak_memory_bytes"] > 10 * 2**20
    json.dumps(result)


def test_the_receipt_says_what_was_run(runner: Runner) -> None:
    result = run(runner, DRAW, {"negative_prompt": "green"})
    receipt, file = result["receipt"], base64.b64decode(result["images"][0]["url"].partition(",")[2])
    assert receipt["job_id"] == "job"
    assert receipt["pipeline"] == "text-to-image"
    assert receipt["model"]["id"] == DEMO
    assert re.fullmatch("sha256-[0-9a-f]{16}", receipt["model"]["revision"])
    wanted = {"prompt": PROMPT, "negative_prompt": "green", "seed": 11, "width": 64, "num_inference_steps": 2}
    assert wanted.items() <= receipt["params"].items()
    assert (receipt["seed"], receipt["steps"], receipt["pixels"]) == (11, 2, 64 * 64)
    (output,) = receipt["outputs"]
    assert output["sha256"] == hashlib.sha256(file).hexdigest()
    assert output["pixels_sha256"] == pixels_sha256(picture(result))
    assert (output["bytes"], output["media_type"], output["seed"]) == (len(file), "image/png", 11)
    assert {"torch", "diffusers"} <= receipt["software"].keys()
    assert receipt["signed"] is False


def test_a_receipt_is_signed_where_there_is_a_key(models: Path) -> None:
    key = base64.b64encode(Ed25519PrivateKey.generate().private_bytes_raw()).decode()
    signing = make(models, receipt_key=key)
    receipt = run(signing, PAINT)["receipt"]
    assert receipt["signed"] is True
    assert receipts.verify(receipt, str(signing.signer.public_key))


def test_a_picture_given_is_in_the_receipt_by_its_hash(runner: Runner) -> None:
    receipt = run(runner, CHANGE)["receipt"]
    file = encode_image(PICTURE, "png")
    assert receipt["params"]["image"] == {"sha256": hashlib.sha256(file).hexdigest(), "bytes": len(file)}
    assert PICTURE_URL[50:100] not in json.dumps(receipt)


def test_a_seed_is_drawn_and_answered_where_none_is_given(runner: Runner) -> None:
    without = {k: v for k, v in DRAW.items() if k != "seed"}
    first, second = run(runner, without), run(runner, without)
    seed = first["images"][0]["seed"]
    assert seed == first["receipt"]["seed"] == first["receipt"]["params"]["seed"]
    assert seed != second["images"][0]["seed"]
    assert picture(run(runner, DRAW, {"seed": seed})).tobytes() == picture(first).tobytes()


@pytest.mark.parametrize("asked", [DRAW, CHANGE], ids=["text-to-image", "image-to-image"])
def test_image_k_of_several_is_what_seed_plus_k_draws_alone(runner: Runner, asked: dict[str, Any]) -> None:
    together = run(runner, asked, {"num_images_per_prompt": 4})
    assert [image["seed"] for image in together["images"]] == [11, 12, 13, 14]
    for k in (0, 3):
        alone = run(runner, asked, {"seed": 11 + k})
        assert psnr(picture(alone), picture(together, k)) >= 45
    assert psnr(picture(together, 0), picture(together, 1)) < 45


def test_jobs_that_come_together_get_what_each_gets_alone(runner: Runner) -> None:
    futures = [runner.submit(Job(f"job-{seed}", {**DRAW, "seed": seed})) for seed in range(4)]
    for seed, future in enumerate(futures):
        result = future.result(WAIT_S)
        assert result["receipt"]["job_id"] == f"job-{seed}"
        assert result["images"] == run(runner, DRAW, {"seed": seed})["images"]
    assert len(runner.backlog) == 0


def test_reports_each_stage_and_each_step(models: Path) -> None:
    events = Events()
    run(make(models), DRAW, {"num_inference_steps": 3}, events=events)
    assert events.stages() == ["loading", "running", "delivering"]
    assert events.steps() == [1, 2, 3]
    assert [progress.seq for progress in events.seen] == list(range(1, len(events.seen) + 1))


def test_previews_come_with_the_steps_where_they_are_asked_for(runner: Runner) -> None:
    events, silent = Events(), Events()
    run(runner, DRAW, {"preview": True}, events=events)
    run(runner, DRAW, events=silent)
    shown = [progress.preview for progress in events.seen if progress.preview]
    assert shown
    assert all(len(url) <= 64_000 for url in shown)
    assert not [progress for progress in silent.seen if progress.preview]


def test_a_job_cancelled_in_a_step_stops_before_the_next_one_is_counted(runner: Runner) -> None:
    def cancel_in_second(progress: Progress) -> None:
        if progress.step == 2:
            job.cancel.cancel("asked")

    events = Events(cancel_in_second)
    job = Job("job", {**DRAW, "num_inference_steps": 20}, events=events)
    before = run(runner, DRAW)
    with pytest.raises(Cancelled, match="asked"):
        runner.submit(job).result(WAIT_S)
    assert events.steps() == [1, 2]
    assert run(runner, DRAW)["images"] == before["images"]
    assert len(runner.backlog) == 0


def test_a_job_over_its_deadline_stops_and_the_next_one_runs(runner: Runner) -> None:
    clock = Clock()

    def two_seconds_a_step(progress: Progress) -> None:
        clock.now += 2.0 if progress.step else 0.0

    events = Events(two_seconds_a_step)
    with pytest.raises(DeadlineExceeded):
        run(runner, DRAW, {"num_inference_steps": 20}, events=events, timeout_s=5.0, clock=clock)
    assert events.steps() == [1, 2, 3]
    assert run(runner, DRAW)["images"]


def test_a_job_cancelled_before_its_turn_never_gets_the_device(runner: Runner) -> None:
    job, events = Job("job", DRAW), Events()
    job.events = events
    job.cancel.cancel("asked")
    with pytest.raises(Cancelled):
        runner.submit(job).result(WAIT_S)
    assert events.seen == []


def test_a_pipeline_can_run_others_on_the_device_it_holds(runner: Runner) -> None:
    result = run(runner, {"pipeline": "diptych", "prompt": PROMPT, "seed": 3})
    both = picture(result)
    left, right = both.crop((0, 0, 64, 64)), both.crop((64, 0, 128, 64))
    alone = picture(run(runner, {"pipeline": "text-to-image", "prompt": PROMPT, "seed": 3}))
    assert left.tobytes() == alone.tobytes()
    assert right.tobytes() == ImageOps.mirror(alone).tobytes()
    assert result["receipt"]["pipeline"] == "diptych"
    assert result["receipt"]["steps"] == SMALL["num_inference_steps"]


def test_a_wrong_input_of_a_nested_run_is_the_jobs_error(runner: Runner) -> None:
    with pytest.raises(InvalidInput, match=r"prompt: .*at least 1"):
        run(runner, {"pipeline": "diptych", "prompt": ""})
    with pytest.raises(NotFound, match="no pipeline 'music'"):
        run(runner, {"pipeline": "diptych", "prompt": PROMPT, "pipeline_inside": "music"})


def test_a_nested_run_does_not_wait_for_a_download(runner: Runner) -> None:
    with pytest.raises(ModelUnavailable, match="'demo/not-there' must be on the volume"):
        run(runner, {"pipeline": "diptych", "prompt": PROMPT, "model_id": "demo/not-there"})


def test_a_result_over_the_limit_is_refused_and_one_at_the_limit_fits(runner: Runner) -> None:
    size = len(json.dumps(run(runner, PAINT, {"side": 64})))
    assert len(json.dumps(run(runner, PAINT, {"side": 64}, result_limit=size + 4096))) <= size + 4096
    with pytest.raises(ResultTooLarge, match=r"delivery\.put"):
        run(runner, PAINT, {"side": 64}, result_limit=size - 1)


@pytest.fixture
def shelf() -> Iterator[Loopback]:
    """A server that takes files."""
    with loopback({"/one.png": reply(200), "/two.png": reply(200), "/full.png": reply(507)}) as server:
        yield server


def test_pictures_go_where_the_job_wants_them(models: Path, shelf: Loopback) -> None:
    delivering = make(models, allow_private_hosts=shelf.netloc)
    asked = put(shelf.url("/one.png?sig=sesame"), shelf.url("/two.png?sig=sesame"))
    result = run(delivering, PAINT, {"num_images_per_prompt": 2}, asked, result_limit=5000)
    assert [image["url"] for image in result["images"]] == [shelf.url("/one.png"), shelf.url("/two.png")]
    assert [(seen.method, seen.path, seen.headers["Content-Type"]) for seen in shelf.seen] == [
        ("PUT", "/one.png", "image/png"),
        ("PUT", "/two.png", "image/png"),
    ]
    hashes = [hashlib.sha256(seen.body).hexdigest() for seen in shelf.seen]
    assert hashes == [output["sha256"] for output in result["receipt"]["outputs"]]


def test_a_private_address_is_refused_before_the_device_is_taken(models: Path, shelf: Loopback) -> None:
    events, cold = Events(), make(models)
    with pytest.raises(InvalidInput, match=r"127\.0\.0\.1"):
        run(cold, CHANGE, {"image": shelf.url("/one.png")}, events=events)
    assert events.seen == []
    assert shelf.seen == []
    assert cold.pool.footprint() == {}


def test_a_picture_is_fetched_from_a_host_that_is_allowed(models: Path) -> None:
    with loopback({"/picture.png": reply(200, encode_image(PICTURE, "png"))}) as server:
        fetching = make(models, allow_private_hosts=server.netloc)
        result = run(fetching, {"pipeline": "mirror", "image": server.url("/picture.png")})
    assert picture(result).tobytes() == ImageOps.mirror(PICTURE).tobytes()
    assert result["metrics"]["fetch_s"] > 0


def test_a_picture_cut_short_is_run_and_flagged(runner: Runner) -> None:
    file = encode_image(Image.effect_noise((64, 64), 100).convert("RGB"), "png")
    whole, short = (data_url(data, "image/png") for data in (file, file[: len(file) // 2]))
    assert run(runner, CHANGE, {"image": short})["metrics"]["truncated_input"] is True
    assert "truncated_input" not in run(runner, CHANGE, {"image": whole})["metrics"]


@pytest.mark.parametrize(("image_format", "kind"), [("png", "PNG"), ("jpeg", "JPEG"), ("webp", "WEBP")])
def test_a_picture_has_the_format_asked_for(runner: Runner, image_format: str, kind: str) -> None:
    url = run(runner, PAINT, {"image_format": image_format})["images"][0]["url"]
    assert url.startswith(f"data:image/{image_format};base64,")
    assert Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).format == kind


def test_a_model_that_is_not_there_is_unavailable(runner: Runner) -> None:
    with pytest.raises(ModelUnavailable, match="'demo/not-there' is not here"):
        run(runner, DRAW, {"model_id": "demo/not-there"})


def test_a_picture_that_the_model_finds_indecent_is_flagged(models: Path, runner: Runner) -> None:
    checked = json.loads(models.read_text())[1]["model_id"]
    result = run(runner, DRAW, {"model_id": checked})
    assert result["images"][0]["nsfw"] is True
    assert result["metrics"]["safety_checked"] is True
    assert run(runner, DRAW, {"model_id": checked, "safety_check": False})["images"][0]["nsfw"] is False
