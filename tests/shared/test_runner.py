"""The runner: from a job's input to its result, with the real handlers on real checkpoints."""

import base64
import gc
import hashlib
import io
import json
import logging
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from PIL import Image, ImageOps

import handlers
from shared import logs, receipts
from shared.errors import (
    Cancelled,
    DeadlineExceeded,
    DeviceLost,
    Internal,
    InvalidInput,
    JobError,
    MediaTooLarge,
    ModelUnavailable,
    NotFound,
    OutOfMemory,
    ResultTooLarge,
)
from shared.job import Event, Job, Progress
from shared.media.image import data_url, encode_image, pixels_sha256
from shared.runner import Runner
from shared.settings import Settings, inherited
from tests.shared.conftest import Checkpoint
from tests.shared.media.loopback import Loopback, loopback, reply
from tests.shared.models.folders import write_files

WAIT_S = 120
ROOT = Path(__file__).parents[2]
EXTRA = Path(__file__).parent / "extra_handlers"
DEMO = "demo/text-to-image"
PROMPT = "a red circle on a blue background"
DRAW = {"pipeline": "text-to-image", "prompt": PROMPT, "num_inference_steps": 2, "seed": 11}
SMALL = {"num_inference_steps": 4, "width": 64, "height": 64}
PICTURE = Image.linear_gradient("L").resize((64, 64)).convert("RGB")
PICTURE_URL = data_url(encode_image(PICTURE, "png"), "image/png")
CHANGE = {"pipeline": "image-to-image", "prompt": PROMPT, "image": PICTURE_URL, "num_inference_steps": 4, "seed": 11}
PAINT = {"pipeline": "paint"}


@pytest.fixture(scope="module")
def models(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models.json: the demo model for both pipelines, one that finds all indecent, and a folder for `trouble`."""
    folder = tmp_path_factory.mktemp("runner")
    entries: list[dict[str, Any]] = [
        {"pipeline": "text-to-image", "model_id": DEMO, "defaults": SMALL},
        {"pipeline": "text-to-image", "model_id": str(checkpoint("sd-checked")), "defaults": SMALL},
        {"pipeline": "text-to-image", "model_id": "demo/not-there"},
        {"pipeline": "image-to-image", "model_id": DEMO, "defaults": SMALL},
        {"pipeline": "trouble", "model_id": str(write_files(folder / "trouble"))},
    ]
    file = folder / "models.json"
    file.write_text(json.dumps(entries))
    return file


@pytest.fixture(scope="module")
def runner(models: Path) -> Runner:
    """For all tests that leave nothing behind."""
    return make(models)


def make(models: Path, **more: Any) -> Runner:
    return Runner(Settings(models=models, device="cpu", **more), handlers.Folders(EXTRA))


def run(runner: Runner, *inputs: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The result of one job; later inputs win."""
    return runner.submit(Job("job", {k: v for i in inputs for k, v in i.items()}, **more)).result(WAIT_S)


def picture(result: dict[str, Any], number: int = 0) -> Image.Image:
    head, _, data = result["images"][number]["url"].partition(",")
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert head == f"data:{Image.MIME[str(image.format)]};base64"
    return image.convert("RGB")


def psnr(one: Image.Image, other: Image.Image) -> float:
    difference = np.asarray(one, np.float64) - np.asarray(other, np.float64)
    return float(10 * np.log10(255**2 / max(float(np.mean(difference**2)), 1e-9)))


class Events:
    """What a job reports; calls back on each progress."""

    def __init__(self, on_progress: Callable[[Progress], None] = lambda progress: None) -> None:
        self.seen: list[Progress] = []
        self._on_progress = on_progress

    def __call__(self, event: Event) -> None:
        assert isinstance(event, Progress)
        self.seen.append(event)
        self._on_progress(event)

    def stages(self) -> list[str]:
        return list(dict.fromkeys(progress.stage for progress in self.seen))

    def steps(self) -> list[int | None]:
        return [progress.step for progress in self.seen if progress.step is not None]


class Lines(logging.Handler):
    """Everything that is logged, as the JSON log has it."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def text(self) -> str:
        return json.dumps([{**vars(record), "msg": record.getMessage()} for record in self.records], default=str)


@pytest.fixture
def lines() -> Iterator[Lines]:
    lines, level = Lines(), logs.logger.level
    logs.logger.addHandler(lines)
    logs.logger.setLevel(logging.INFO)
    yield lines
    logs.logger.removeHandler(lines)
    logs.logger.setLevel(level)


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


def test_the_same_request_is_the_same_file_in_a_fresh_process(runner: Runner, models: Path) -> None:
    code = """
import json, sys
from pathlib import Path
import handlers
from shared.job import Job
from shared.runner import Runner
from shared.settings import Settings
import torch
torch.set_num_threads(1)
runner = Runner(Settings(models=Path(sys.argv[1]), device="cpu"), handlers.Folders(Path(sys.argv[2])))
for asked in json.loads(sys.argv[3]):
    print(runner.submit(Job("job", asked)).result()["images"][0]["url"])
"""
    asked = [DRAW, CHANGE]
    done = subprocess.run(
        [sys.executable, "-c", code, str(models), str(EXTRA), json.dumps(asked)],
        env=inherited(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=WAIT_S,
    )
    assert done.stdout.split() == [run(runner, one)["images"][0]["url"] for one in asked]


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
    now = [0.0]

    def two_seconds_a_step(progress: Progress) -> None:
        now[0] += 2.0 if progress.step else 0.0

    events = Events(two_seconds_a_step)
    with pytest.raises(DeadlineExceeded):
        run(runner, DRAW, {"num_inference_steps": 20}, events=events, timeout_s=5.0, clock=lambda: now[0])
    assert events.steps() == [1, 2, 3]
    assert run(runner, DRAW)["images"]


def test_a_job_cancelled_before_its_turn_never_gets_the_device(runner: Runner) -> None:
    job, events = Job("job", DRAW), Events()
    job.events = events
    job.cancel.cancel("asked")
    with pytest.raises(Cancelled):
        runner.submit(job).result(WAIT_S)
    assert events.seen == []


@pytest.fixture
def troubled(models: Path) -> Iterator[tuple[Runner, Any]]:
    """A runner, and the class that counts the loads and runs of its `trouble` pipeline."""
    runner = make(models)
    counts = runner.registry.get("trouble").load.__globals__["Model"]  # type: ignore[union-attr]
    counts.loads = counts.runs = 0
    yield runner, counts
    runner.lane.close()


def test_out_of_memory_is_tried_once_more_on_the_same_model(troubled: tuple[Runner, Any]) -> None:
    runner, counts = troubled
    result = run(runner, {"pipeline": "trouble", "kind": "out of memory", "attempts": 1})
    assert (counts.runs, counts.loads) == (2, 1)
    assert result["metrics"]["runs"] == 2
    assert len(result["images"]) == 1
    assert result["receipt"]["steps"] == 1


def test_out_of_memory_twice_ends_that_job_alone_and_frees_its_model(troubled: tuple[Runner, Any]) -> None:
    runner, counts = troubled
    with pytest.raises(OutOfMemory, match="fewer or smaller images"):
        run(runner, {"pipeline": "trouble", "kind": "out of memory"})
    assert counts.runs == 2
    assert runner.pool.footprint() == {}
    assert run(runner, {"pipeline": "trouble"})["images"]
    assert counts.loads == 2


def test_a_second_attempt_gets_no_more_time_and_has_waited_no_longer(troubled: tuple[Runner, Any]) -> None:
    runner, _ = troubled
    now = [0.0]

    def three_seconds_a_step(progress: Progress) -> None:
        now[0] += 3.0 if progress.step else 0.0

    more: Any = {"events": three_seconds_a_step, "clock": lambda: now[0]}
    asked = {"pipeline": "trouble", "kind": "out of memory", "attempts": 1}
    assert run(runner, asked, **more, timeout_s=7.0)["metrics"]["queue_s"] == 0
    with pytest.raises(DeadlineExceeded):
        run(runner, {**asked, "attempts": 4}, **more, timeout_s=2.0)


def test_a_lost_device_ends_its_job_and_closes_the_lane(troubled: tuple[Runner, Any]) -> None:
    runner, counts = troubled
    with pytest.raises(DeviceLost):
        run(runner, {"pipeline": "trouble", "kind": "device lost"})
    assert runner.lane.broken
    assert counts.runs == 1


def test_an_internal_error_hides_its_cause_and_logs_it_under_an_id(
    troubled: tuple[Runner, Any], lines: Lines
) -> None:
    with pytest.raises(Internal) as caught:
        run(troubled[0], {"pipeline": "trouble", "kind": "bug", "secret": "sesame"})
    error_id = caught.value.detail["error_id"]
    assert error_id in caught.value.message
    assert "sesame" not in json.dumps(caught.value.as_dict())
    (logged,) = [record for record in lines.records if record.levelno >= logging.ERROR]
    assert vars(logged)["fields"] == {"job": "job", "error_id": error_id}
    assert logged.exc_info is not None
    assert "sesame" in repr(logged.exc_info[1])


def test_a_handlers_refusal_reaches_the_caller_as_it_is(troubled: tuple[Runner, Any]) -> None:
    with pytest.raises(InvalidInput, match="not this one"):
        run(troubled[0], {"pipeline": "trouble", "kind": "refusal"})


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


def put(*urls: str) -> dict[str, Any]:
    return {"delivery": {"put": [{"url": url} for url in urls]}}


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
        ({"speed": 11}, "speed: Extra inputs are not permitted"),
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
        (lambda: 5, InvalidInput, "image: an image is"),
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


def test_a_model_that_is_not_there_is_unavailable(runner: Runner) -> None:
    with pytest.raises(ModelUnavailable, match="'demo/not-there' is not here"):
        run(runner, DRAW, {"model_id": "demo/not-there"})


def test_a_picture_that_the_model_finds_indecent_is_flagged(models: Path, runner: Runner) -> None:
    checked = json.loads(models.read_text())[1]["model_id"]
    result = run(runner, DRAW, {"model_id": checked})
    assert result["images"][0]["nsfw"] is True
    assert result["metrics"]["safety_checked"] is True
    assert run(runner, DRAW, {"model_id": checked, "safety_check": False})["images"][0]["nsfw"] is False


def test_a_worker_of_one_pipeline_needs_no_name(models: Path) -> None:
    only = make(models, pipeline="text-to-image")
    assert only.planner.pipelines == ["text-to-image"]
    assert run(only, DRAW, {"pipeline": None})["receipt"]["pipeline"] == "text-to-image"
    with pytest.raises(InvalidInput, match="does not serve 'paint'; it serves: text-to-image"):
        run(only, PAINT)


def test_serves_what_has_a_model_and_what_needs_none(runner: Runner) -> None:
    assert runner.planner.pipelines == ["text-to-image", "image-to-image", "trouble", "diptych", "mirror", "paint"]


def test_a_worker_without_models_imports_no_torch(tmp_path: Path) -> None:
    (tmp_path / "models.json").write_text("[]")
    code = """
import sys
from pathlib import Path
import handlers
from shared.job import Job
from shared.runner import Runner
from shared.settings import Settings
runner = Runner(Settings(models=Path(sys.argv[1])), handlers.Folders(Path(sys.argv[2])))
runner.warm()
runner.submit(Job("job", {"pipeline": "paint"})).result()
print([name for name in ("torch", "diffusers", "transformers", "huggingface_hub") if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "models.json"), str(EXTRA)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def test_a_list_that_names_a_pipeline_without_a_handler_is_refused_at_the_start(tmp_path: Path) -> None:
    file = tmp_path / "models.json"
    file.write_text('[{"pipeline": "music", "model_id": "ours/other"}]')
    with pytest.raises(NotFound, match=r"no pipeline 'music'; there are: .*text-to-image"):
        make(file)


@pytest.mark.parametrize("pipeline", ["text-to-image", "image-to-image"])
def test_warm_models_are_loaded_before_the_first_job(tmp_path: Path, pipeline: str) -> None:
    file = tmp_path / "models.json"
    file.write_text(json.dumps([{"pipeline": pipeline, "model_id": DEMO, "defaults": SMALL, "warm": True}]))
    warm, events = Runner(Settings(models=file, device="cpu"), handlers.Folders()), Events()
    warm.warm()
    assert (gc.isenabled(), gc.get_freeze_count() > 0) == (True, True)
    gc.unfreeze()  # the other tests' objects are not this worker's
    asked = DRAW if pipeline == "text-to-image" else CHANGE
    first = run(warm, asked, events=events)["metrics"]
    assert events.stages() == ["running", "delivering"]
    assert {"device_s", "warm_s", "models"} <= set(first["cold_start"])
    assert first["cold_start"]["models"][0]["files_s"] > 0
    assert not {"cold_start", "loading"} & set(run(warm, asked)["metrics"])


def test_the_job_that_loads_a_model_tells_where_the_time_went(tmp_path: Path) -> None:
    file = tmp_path / "models.json"
    file.write_text(json.dumps([{"pipeline": "text-to-image", "model_id": DEMO, "defaults": SMALL}]))
    cold = make(file)
    assert run(cold, DRAW)["metrics"]["loading"]["files_s"] > 0
    assert "loading" not in run(cold, DRAW)["metrics"]


def test_warm_models_on_a_network_volume_are_read_before_anything_is_imported(tmp_path: Path) -> None:
    file = tmp_path / "models.json"
    file.write_text(json.dumps([{"pipeline": "text-to-image", "model_id": DEMO, "defaults": SMALL, "warm": True}]))
    code = """
import sys
from pathlib import Path
import handlers
from shared.models import readahead, volumes
from shared.runner import Runner
from shared.settings import Settings
volumes.NETWORKS = ("",)
runner = Runner(Settings(models=Path(sys.argv[1]), device="cpu"), handlers.Folders())
runner.read_ahead()
assert "torch" not in sys.modules
(files,) = readahead._RUNNING
print(readahead.finish(files).whole, sorted({file.parent.name for file in files}))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(file)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "True ['text_encoder', 'unet', 'vae']"


def test_a_prompt_is_never_in_the_log(runner: Runner, lines: Lines) -> None:
    run(runner, DRAW, {"prompt": "open sesame", "negative_prompt": "sesame street"})
    with pytest.raises(InvalidInput):
        run(runner, DRAW, {"prompt": "open sesame", "width": 7})
    with pytest.raises(InvalidInput):
        run(runner, DRAW, {"prompt": ["open sesame"]})
    assert "sesame" not in lines.text()
    stages = [record.getMessage() for record in lines.records]
    assert [stage for stage in stages if stage != "loaded"] == [
        "taken",
        "run",
        "delivered",
        "ended",
        "ended",
        "ended",
    ]
