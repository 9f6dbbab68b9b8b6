"""The same jobs on RunPod's worker, on Modal's class and in the container: same results, receipts and errors."""

import base64
import io
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack
from fractions import Fraction
from functools import cache
from typing import Any

import pytest
import requests
from PIL import Image

import handlers
from platforms.watch import whole
from shared.errors import ENDINGS, Cancelled
from shared.jobs.client import Client
from shared.jobs.failures import failure
from templates.demo_models.train.shapes import Placement, Scene, draw
from tests.conftest import RECEIPT_KEY
from tests.platforms.container.box import Box
from tests.platforms.harness import until
from tests.platforms.modal.conftest import AUTH_TOKEN
from tests.platforms.modal.gateway import Gateway, deployed_web
from tests.platforms.modal.plane import Plane
from tests.platforms.modal.records import Stock
from tests.shared.media.clips import video_of
from tests.studio import ROOT, Studio, TextStudio

RED = "a red circle on a blue background"
TEXT = "text-generation"
LIBRARIES = ("torch", "diffusers.pipelines.auto_pipeline", "transformers.models.clip.modeling_clip")
PIPELINES = handlers.Folders(None).names()


def data_url(data: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def picture() -> str:
    file = io.BytesIO()
    Image.fromarray(draw(Scene("circle", "red", "blue"), Placement(0.0, 0.0, 0.2))).save(file, "PNG")
    return data_url(file.getvalue(), "image/png")


def film() -> str:
    frames = [draw(Scene("circle", "red", "blue"), Placement(x, 0.0, 0.2)) for x in (-0.2, 0.0, 0.2)]
    return data_url(video_of(frames, fps=Fraction(12), options={"crf": "4"}), "video/mp4")


def of(pipeline: str, **params: Any) -> dict[str, Any]:
    return {"pipeline": pipeline, "model_id": f"demo/{pipeline}", **params}


@cache
def jobs() -> dict[str, dict[str, Any]]:
    """One for each pipeline."""
    drawing = of("text-to-image", prompt=RED, seed=5)
    return {
        "text-to-image": drawing,
        "image-to-image": of("image-to-image", prompt="a green circle", image=picture(), seed=5)
        | {"model_id": "demo/text-to-image"},
        "image-to-video": of("image-to-video", image=picture(), seed=5, num_inference_steps=2, output="video"),
        "frame-interpolation": of("frame-interpolation", video=film(), target_fps=24),
        "upscale": of("upscale", image=picture(), scale=2, unused="ignore"),
        "workflow": {"pipeline": "workflow", "steps": [drawing, of("upscale", scale=2)]},
        TEXT: of(TEXT, prompt="hello", max_tokens=12, temperature=0.0, seed=1, stream=False, details=True),
    }


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a parameter out of its bounds": (of("text-to-image", prompt=RED, num_inference_steps=0), "invalid_input"),
    "a parameter that there is not": (of("text-to-image", prompt=RED, colour="red"), "invalid_input"),
    "a model that is not listed": (of("upscale", image="data:,") | {"model_id": "a/b"}, "invalid_input"),
    "a picture that is none": (of("upscale", image="data:image/png;base64,AAAA"), "invalid_input"),
    "an address within": (of("upscale", image="http://127.0.0.1:1/x.png"), "invalid_input"),
    "a third step": (
        {"pipeline": "workflow", "steps": [of("text-to-image", prompt=RED), of("upscale"), of("upscale", scale=99)]},
        "invalid_input",
    ),
}


class Host(ABC):
    """A platform that runs jobs."""

    @abstractmethod
    def run(self, job: dict[str, Any]) -> dict[str, Any]:
        """The job's result; raises its ending."""

    @abstractmethod
    def stop(self, job: dict[str, Any]) -> None:
        """Begin the job, stop it while it runs, and raise its ending."""


class Queue(Host):
    """An endpoint of RunPod's shape, by each pipeline's id."""

    def __init__(self, media: Client, text: Client) -> None:
        self._media = media
        self._text = text

    def _client(self, job: dict[str, Any]) -> Client:
        return self._text if job["pipeline"] == TEXT else self._media

    def run(self, job: dict[str, Any]) -> dict[str, Any]:
        return whole(self._client(job).run(job))

    def stop(self, job: dict[str, Any]) -> None:
        client = self._client(job)
        job_id = client.submit(job)
        until(lambda: (client.status(job_id).get("output") or {}).get("step", 0) > 2, 90)
        assert client.cancel(job_id)["status"] == "CANCELLED"
        client.wait(job_id)


class Rest(Host):
    """The container's routes."""

    def __init__(self, box: Box) -> None:
        self._box = box

    def run(self, job: dict[str, Any]) -> dict[str, Any]:
        return _ended(self._box.post(f"/{job['pipeline']}", _body(job)))

    def stop(self, job: dict[str, Any]) -> None:
        waiting = self._box.later(f"/{job['pipeline']}", _body(job), headers={"X-Job-Id": "to-stop"})
        until(self._is_running, 90)
        assert self._box.post("/cancel/to-stop").json()["status"] == "CANCELLED"
        _ended(waiting.result())

    def _is_running(self) -> bool:
        performing = self._box.server.performer.find("to-stop")
        return performing is not None and performing.job.on_device_since is not None


def _body(job: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in job.items() if name not in ("pipeline", "details")}


def _ended(answer: requests.Response) -> dict[str, Any]:
    if answer.status_code == 200:
        return dict(answer.json())
    detail = answer.json()["detail"]
    raise failure("invalid_input: " if isinstance(detail, list) else f"{detail['code']}: {detail['msg']}")


@pytest.fixture(scope="module")
def runpod(studio: Studio, text_studio: TextStudio) -> Host:
    return Queue(studio.client, text_studio.client)


@pytest.fixture(scope="module")
def container(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    folder = tmp_path_factory.mktemp("container")
    listed = json.loads((ROOT / "templates" / "models.json").read_text())
    models = folder / "models.json"
    models.write_text(json.dumps([entry for entry in listed if entry["model_id"].startswith("demo/")]))
    with Box(folder, models=models, handlers=None, receipt_key=RECEIPT_KEY) as box:
        yield Rest(box)


@pytest.fixture(scope="module")
def on_modal(tmp_path_factory: pytest.TempPathFactory, deployed: Stock) -> Iterator[Host]:
    """The deployed class in real containers; the web application is served here."""
    with ExitStack() as stack:
        plane = stack.enter_context(Plane(tmp_path_factory.mktemp("plane"), deployed, preload=LIBRARIES))
        plane.secret("pilotlight-settings").env["RECEIPT_KEY"] = RECEIPT_KEY
        stack.enter_context(plane.client_env())
        stack.enter_context(pytest.MonkeyPatch.context()).setenv("AUTH_TOKEN", AUTH_TOKEN)
        gateway = stack.enter_context(Gateway(deployed_web, AUTH_TOKEN))
        yield Queue(*(stack.enter_context(gateway.client(name)) for name in ("media", TEXT)))


@pytest.fixture(params=["container", "on_modal"])
def host(request: pytest.FixtureRequest) -> Host:
    found: Host = request.getfixturevalue(request.param)
    return found


RESULTS: dict[str, dict[str, Any]] = {}


@pytest.fixture
def expected(request: pytest.FixtureRequest, runpod: Host) -> dict[str, Any]:
    """The result of RunPod's worker."""
    pipeline = request.node.callspec.params["pipeline"]
    if pipeline not in RESULTS:
        RESULTS[pipeline] = runpod.run(jobs()[pipeline])
    return RESULTS[pipeline]


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_results_and_receipts(host: Host, expected: dict[str, Any], pipeline: str) -> None:
    result = host.run(jobs()[pipeline])
    assert set(result) == set(expected)
    assert shown(result) == shown(expected)
    ours, theirs = result["receipt"], expected["receipt"]
    assert set(ours) == set(theirs)
    assert {name: ours[name] for name in ours if name not in OWN} == {n: theirs[n] for n in theirs if n not in OWN}
    assert ours["signed"] is theirs["signed"] is True


OWN = {"job_id", "worker", "times", "signature", "image_digest"}  # of a receipt: what is each run's own


def shown(result: dict[str, Any]) -> dict[str, Any]:
    """What a result says, but for its files, which the receipt names by their hashes, and its times."""
    media = {
        kind: [{**made, "url": "", "seed": made["seed"] or 0} for made in result[kind]]  # Livepeer's is a number
        for kind in ("images", "videos")
        if kind in result
    }
    return {name: value for name, value in result.items() if name not in ("metrics", "receipt")} | media


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("platform", ["runpod", "container", "on_modal"])
def test_errors(request: pytest.FixtureRequest, platform: str, wrong: str) -> None:
    job, code = WRONG[wrong]
    with pytest.raises(ENDINGS, match=f"^{code}: "):
        request.getfixturevalue(platform).run(job)


@pytest.mark.parametrize("platform", ["runpod", "container", "on_modal"])
def test_cancel(request: pytest.FixtureRequest, platform: str) -> None:
    host: Host = request.getfixturevalue(platform)
    with pytest.raises(Cancelled):
        host.stop(of("text-to-image", prompt=RED, num_inference_steps=150, num_images_per_prompt=4))
    assert host.run(of("text-to-image", prompt=RED, num_inference_steps=1))["images"]
