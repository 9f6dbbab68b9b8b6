"""Chains of pipelines as one job, through the runner and the demo models."""

import base64
import hashlib
import io
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import handlers
from shared.errors import Cancelled, InvalidInput, JobError, NotFound
from shared.job import Event, Job, Progress
from shared.media.frames import VideoLimits
from shared.media.image import encode_image
from shared.media.video_file import VideoFile
from shared.runner import Runner
from shared.settings import Settings
from templates.demo_models import judge
from tests.shared.media.loopback import loopback, reply

ROOT = Path(__file__).parents[2]
WAIT_S = 120
RED = "a red circle on a blue background"
DRAW = {"pipeline": "text-to-image", "prompt": RED, "seed": 3, "num_inference_steps": 8}
ENLARGE = {"pipeline": "upscale", "scale": 2}
SMOOTHE = {"pipeline": "frame-interpolation", "in_between": 3, "fps": 6}
LIMITS = VideoLimits(10**7, 1000, 100)


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    entries = json.loads((ROOT / "templates" / "models.json").read_text())
    models = tmp_path_factory.mktemp("workflow") / "models.json"
    models.write_text(json.dumps([e for e in entries if e["model_id"].startswith("demo/")]))
    runner = Runner(Settings(models=models, device="cpu"), handlers.Folders(ROOT / "tests/shared/extra_handlers"))
    yield runner
    runner.lane.close()
    runner.store.close()


class Heard:
    """What a job reports; acts on each."""

    def __init__(self, act: Callable[[Progress], None] = lambda progress: None) -> None:
        self.seen: list[Progress] = []
        self._act = act

    def __call__(self, event: Event) -> None:
        assert isinstance(event, Progress)
        self.seen.append(event)
        self._act(event)

    def shares(self) -> list[float]:
        return [p.step / p.steps for p in self.seen if p.stage == "running" and p.step is not None and p.steps]


def job(*steps: dict[str, Any], **more: Any) -> Job:
    return Job("job", {"pipeline": "workflow", "steps": list(steps)}, **more)


def result_of(runner: Runner, given: Job) -> dict[str, Any]:
    return runner.submit(given).result(WAIT_S)


def data_of(url: str) -> bytes:
    return base64.b64decode(url.partition(",")[2])


def picture(result: dict[str, Any]) -> Image.Image:
    (image,) = result["images"]
    return Image.open(io.BytesIO(data_of(image["url"])))


def test_each_step_takes_what_the_one_before_it_made(runner: Runner) -> None:
    large = picture(result_of(runner, job(DRAW, ENLARGE)))
    assert large.size == (128, 128)
    assert judge.matches(large, RED)


def test_pictures_become_a_film_and_the_film_a_larger_one(runner: Runner) -> None:
    given = job({**DRAW, "num_images_per_prompt": 2}, SMOOTHE, {**ENLARGE, "video_format": "webm"})
    result = result_of(runner, given)
    (video,) = result["videos"]
    assert (video["frames"], video["fps"]) == (5, 24.0)
    assert video["url"].startswith("data:video/webm;base64,")
    film = VideoFile(data_of(video["url"]), LIMITS)
    assert (film.info.width, film.info.height) == (128, 128)
    assert all(judge.matches(Image.fromarray(frame.pixels), RED) for frame in film.frames())


def test_a_step_may_name_what_it_takes(runner: Runner) -> None:
    two = {**DRAW, "num_images_per_prompt": 2}
    second = {"pipeline": "mirror", "image": "$steps.0.images.1"}
    mirrored = picture(result_of(runner, job(two, ENLARGE | {"image": "$steps.0.images.0"}, second)))
    (_, drawn) = result_of(runner, Job("alone", two))["images"]
    assert np.array_equal(np.asarray(mirrored), np.asarray(Image.open(io.BytesIO(data_of(drawn["url"]))))[:, ::-1])


def test_files_that_steps_name_are_fetched_before_the_first_runs(runner: Runner) -> None:
    order: list[str] = []
    with loopback({"/cat.png": reply(200, encode_image(Image.new("RGB", (32, 32), "red"), "png"))}) as server:
        private = Runner(
            Settings(models=runner.settings.models, device="cpu", allow_private_hosts=server.netloc),
            handlers.Folders(ROOT / "tests/shared/extra_handlers"),
        )
        heard = Heard(lambda progress: order.append(f"{progress.stage} after {len(server.seen)} requests"))
        named = {"pipeline": "mirror", "image": server.url("/cat.png")}
        result = result_of(private, job({"pipeline": "paint"}, named, events=heard))
        private.lane.close()
    assert picture(result).size == (32, 32)
    assert len(server.seen) == 1
    assert "running after 1 requests" in order
    assert not any(said.startswith("running after 0") for said in order)


@pytest.mark.parametrize(
    ("steps", "error", "says"),
    [
        ([DRAW, SMOOTHE | {"images": ["$steps.0", "$steps.0"]}, ENLARGE | {"scale": 9}], InvalidInput,
         r"steps\.2 \(upscale\): scale: "),
        ([DRAW, ENLARGE | {"scael": 2}], InvalidInput, r"steps\.1 \(upscale\): scael: there .* mean scale\?"),
        ([DRAW, {"pipeline": "text-to-sculpture"}], NotFound, r"steps\.1 \(text-to-sculpture\): no pipeline"),
        ([DRAW, {"scale": 2}], NotFound, r"steps\.1 \(None\): no pipeline"),
        ([ENLARGE], InvalidInput, r"steps\.0 \(upscale\): .*either image or video"),
        ([DRAW, ENLARGE | {"image": "$steps.1"}], InvalidInput, r"image: '\$steps\.1' names no"),
        ([DRAW, ENLARGE | {"image": "$steps.zero"}], InvalidInput, r"image: '\$steps\.zero' names no step"),
        ([DRAW, ENLARGE | {"image": "$steps.0.images.1"}], InvalidInput, r"is more than that step makes"),
        ([DRAW, SMOOTHE], InvalidInput, r"steps\.1 \(frame-interpolation\): images: .*at least 2"),
        ([DRAW, {"pipeline": "text-generation", "prompt": "x"}], InvalidInput, "answers in text"),
        ([DRAW, {"pipeline": "workflow", "prompt": "x"}], InvalidInput, "no step of another one"),
        ([DRAW, ENLARGE | {"model_id": "nobody/nothing"}], InvalidInput, r"steps\.1 \(upscale\): model_id 'nobody"),
        ([DRAW, ENLARGE | {"video": "$steps.0"}], InvalidInput, r"steps\.1 \(upscale\): "),
    ],
)  # fmt: skip
def test_what_is_wrong_with_any_step_is_said_before_the_first_runs(
    runner: Runner, steps: list[dict[str, Any]], error: type[JobError], says: str
) -> None:
    heard = Heard()
    with pytest.raises(error, match=says):
        result_of(runner, job(*steps, events=heard))
    assert heard.seen == []


@pytest.mark.parametrize("given", [{}, {"steps": []}, {"steps": [DRAW], "prompt": "x"}, {"steps": [DRAW] * 9}])
def test_there_are_steps_or_a_prompt(runner: Runner, given: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        result_of(runner, Job("job", {"pipeline": "workflow", **given}))


def test_a_step_that_fails_says_which(runner: Runner) -> None:
    huge = ENLARGE | {"image": "$steps.0", "denoise_strength": 0.5}
    with pytest.raises(InvalidInput, match=r"steps\.1 \(upscale\): model 'demo/upscale' has no denoise") as caught:
        result_of(runner, job(DRAW, huge))
    assert caught.value.detail["step"] == 1


def test_progress_goes_over_the_whole_and_never_back(runner: Runner) -> None:
    heard = Heard()
    result_of(runner, job({**DRAW, "num_images_per_prompt": 2}, SMOOTHE, ENLARGE, events=heard))
    shares = heard.shares()
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert any(share < 1 / 3 for share in shares)
    assert any(1 / 3 < share < 2 / 3 for share in shares)


def test_cancel_in_the_second_step_frees_all(runner: Runner) -> None:
    given = job({**DRAW, "num_images_per_prompt": 2}, SMOOTHE | {"in_between": 15}, ENLARGE)
    heard = Heard(lambda p: given.cancel.cancel("enough") if p.step and p.steps and p.step / p.steps > 0.4 else None)
    given.events = heard
    with pytest.raises(Cancelled, match="enough"):
        result_of(runner, given)
    assert max(heard.shares()) < 2 / 3
    runner.pool.free(everything=True)
    assert runner.pool.footprint() == {}  # nothing is held any more
    assert not [thread for thread in threading.enumerate() if thread.name == "video-encoder"]
    assert picture(result_of(runner, Job("next", DRAW))).size == (64, 64)


def test_the_receipt_has_a_place_for_each_step(runner: Runner) -> None:
    result = result_of(runner, job(DRAW, ENLARGE))
    first, second = result["receipt"]["within"]
    assert (first["pipeline"], first["model"]["id"]) == ("text-to-image", "demo/text-to-image")
    assert (first["params"]["prompt"], first["params"]["seed"]) == (RED, 3)
    assert (second["pipeline"], second["model"]["id"]) == ("upscale", "demo/upscale")
    assert second["params"]["image"].keys() == {"pixels_sha256"}
    assert result["receipt"]["params"] == {
        "steps": [DRAW, ENLARGE | {"image": "$steps.0"}],
        "keep": False,
    }


def test_the_next_steps_model_is_loaded_while_the_first_works(runner: Runner) -> None:
    runner.pool.free(everything=True)
    loaded: list[list[str]] = []
    heard = Heard(lambda p: loaded.append(sorted(runner.pool.footprint())) if p.step else None)
    slow = {**DRAW, "num_inference_steps": 120}
    result_of(runner, job(slow, ENLARGE, events=heard))
    during_the_first = [names for names, share in zip(loaded, heard.shares(), strict=True) if share <= 0.5]
    assert "demo/upscale" in during_the_first[-1]


def test_what_steps_made_is_kept_when_asked_for(runner: Runner) -> None:
    given = Job("job", {"pipeline": "workflow", "keep": True, "steps": [DRAW, ENLARGE, {"pipeline": "mirror"}]})
    heard = Heard()
    given.events = heard
    result = result_of(runner, given)
    assert [(step["step"], step["pipeline"]) for step in result["steps"]] == [(0, "text-to-image"), (1, "upscale")]
    sizes = [Image.open(io.BytesIO(data_of(s["images"][0]["url"]))).size for s in result["steps"]]
    assert sizes == [(64, 64), (128, 128)]
    hashes = [hashlib.sha256(data_of(s["images"][0]["url"])).hexdigest() for s in [*result["steps"], result]]
    assert [output["sha256"] for output in result["receipt"]["outputs"]] == hashes
    assert heard.seen[-1].kept == result["steps"]


def test_what_was_kept_is_told_before_the_job_ends(runner: Runner) -> None:
    heard = Heard(lambda p: given.cancel.cancel("enough") if p.kept else None)
    slow = {**DRAW, "num_inference_steps": 120, "image": "$steps.0"}
    given = Job("job", {"pipeline": "workflow", "keep": True, "steps": [DRAW, slow | {"pipeline": "image-to-image"}]})
    given.events = heard
    with pytest.raises(Cancelled):
        result_of(runner, given)
    (kept,) = heard.seen[-1].kept or []
    assert judge.matches(Image.open(io.BytesIO(data_of(kept["images"][0]["url"]))), RED)


def test_a_file_beside_a_reference_is_fetched_first_and_not_in_the_receipt(runner: Runner) -> None:
    own = base64.b64encode(encode_image(Image.new("RGB", (64, 64), "red"), "png")).decode()
    result = result_of(runner, job(DRAW, SMOOTHE | {"images": [own, "$steps.0"]}))
    (_, smoothed) = result["receipt"]["params"]["steps"]
    assert smoothed["images"][0].keys() == {"sha256", "bytes"}
    assert smoothed["images"][1] == "$steps.0"
    assert own not in json.dumps(result["receipt"])


def test_a_seed_is_that_of_every_step_that_takes_one_and_names_none(runner: Runner) -> None:
    given = {"pipeline": "workflow", "steps": [{**DRAW, "seed": None}, {**DRAW, "seed": 5}, ENLARGE], "seed": 4}
    result = result_of(runner, Job("job", given))
    assert [step["params"].get("seed") for step in result["receipt"]["within"]] == [4, 5, 4]
