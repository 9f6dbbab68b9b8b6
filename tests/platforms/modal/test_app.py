"""The deployed app, used as its clients do: containers of Modal's own entry point run the class."""

import asyncio
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import modal
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from platforms.modal import app
from platforms.modal.engine import web_of
from shared.errors import Cancelled
from shared.jobs.client import Client
from shared.settings import inherited
from templates.demo_models import judge
from tests.platforms.harness import until
from tests.platforms.modal.conftest import AUTH_TOKEN
from tests.platforms.modal.gateway import Gateway
from tests.platforms.modal.plane import ROOT, Plane
from tests.platforms.modal.records import Stock
from tests.platforms.modal.stand_in import Entries
from tests.platforms.modal.test_worker import given, record_of

RED = "a red circle on a blue background"
DRAWING = {"pipeline": "text-to-image", "model_id": "demo/text-to-image", "prompt": RED}
LONG = {**DRAWING, "num_inference_steps": 150, "num_images_per_prompt": 4}


class Deployed:
    """The plane with the app, and its web application on loopback."""

    def __init__(self, plane: Plane, gateway: Gateway) -> None:
        self.plane = plane
        self.gateway = gateway


@pytest.fixture(scope="module")
def modal_app(tmp_path_factory: pytest.TempPathFactory, deployed: Stock) -> Iterator[Deployed]:
    with ExitStack() as stack:
        plane = stack.enter_context(Plane(tmp_path_factory.mktemp("plane"), deployed))
        stack.enter_context(plane.client_env())
        stack.enter_context(pytest.MonkeyPatch.context()).setenv("AUTH_TOKEN", AUTH_TOKEN)
        board = modal.Dict.from_name("pilotlight-jobs", create_if_missing=True)
        served = Gateway(lambda: web_of(modal.Cls.from_name("pilotlight", "Engine"), board), AUTH_TOKEN)
        yield Deployed(plane, stack.enter_context(served))


@pytest.fixture
def client(modal_app: Deployed) -> Iterator[Client]:
    with modal_app.gateway.client() as client:
        yield client


def test_a_job_is_seen_on_its_way_and_its_picture_is_right(client: Client) -> None:
    job_id = client.submit({**DRAWING, "num_inference_steps": 40, "seed": 3})
    seen = until(lambda: (job := client.status(job_id))["status"] != "IN_QUEUE" and job, 90)
    assert seen["status"] == "IN_PROGRESS"
    result = client.wait(job_id)
    made = Image.open(io.BytesIO(client.download(result["images"][0]["url"])))
    assert judge.matches(made, RED)


def test_cancel_frees_the_container(modal_app: Deployed, client: Client) -> None:
    job_id = client.submit(LONG)
    until(lambda: (client.status(job_id).get("output") or {}).get("step", 0) > 2, 90)
    containers = [task.id for task in modal_app.plane.tasks("Engine.*")]
    assert client.cancel(job_id)["status"] == "CANCELLED"
    with pytest.raises(Cancelled):
        client.wait(job_id)
    assert client.run({**DRAWING, "num_inference_steps": 1})["images"]
    assert [task.id for task in modal_app.plane.tasks("Engine.*")] == containers


def test_text_streams_and_is_read_again_from_the_start(modal_app: Deployed) -> None:
    with modal_app.gateway.client("text-generation") as client:
        job_id = client.submit({"prompt": "hello", "max_tokens": 20, "seed": 1})
        pieces = list(client.stream(job_id))
        assert len(pieces) > 3
        assert list(client.stream(job_id)) == pieces
        assert "".join(client.wait(job_id)) == "".join(pieces)


def test_a_result_is_there_for_whoever_asks_later(modal_app: Deployed, client: Client) -> None:
    """Also from another container of the web function, which knows nothing but what is on the board."""
    job_id = client.submit({**DRAWING, "seed": 3})
    result = client.wait(job_id)
    board = modal.Dict.from_name("pilotlight-jobs", create_if_missing=True)
    another = Gateway(lambda: web_of(modal.Cls.from_name("pilotlight", "Engine"), board), AUTH_TOKEN)
    with another, another.client() as later:
        assert later.wait(job_id) == result
        assert [event["n"] for event in later.events(job_id)] == [event["n"] for event in client.events(job_id)]


def test_pilotlight_run_works_as_it_does_elsewhere(modal_app: Deployed, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "platforms.cli", "run", "text-to-image"),
            *("--endpoint", f"{modal_app.gateway.url}/v2/media", "--param", "model_id=demo/text-to-image"),
            *("--prompt", RED, "--out", str(tmp_path)),
        ],
        env=inherited(PILOTLIGHT_API_KEY=AUTH_TOKEN, XDG_CONFIG_HOME=str(tmp_path)),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (picture,) = tmp_path.glob("*.png")
    assert judge.matches(Image.open(picture), RED)


def test_the_web_function_asks_for_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTH_TOKEN", AUTH_TOKEN)
    with TestClient(app.web.local()) as web:
        assert web.get("/health").status_code == 200
        for path in ("/v2/media/run", "/text-to-image"):
            assert web.post(path, json={"input": DRAWING}).status_code == 401
            assert web.post(path, json={"input": DRAWING}, headers={"Authorization": "Bearer no"}).status_code == 401


def test_the_class_runs_a_job_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEVICE", "cpu")
    board, job = Entries(), given({"prompt": "hello", "max_tokens": 8, "details": True})
    board.update({f"{job['id']}/record": record_of(job)})
    monkeypatch.setattr(app, "board", board)
    made: Any = app.Engine
    engine = made(pipeline="text-generation", model_id="demo/text-generation")
    engine._enter()  # which `.local()` does itself where the method is not async (modal 1.6.4)
    with pytest.warns(UserWarning, match="will not have access to the mounted Volume"):
        running = engine.run.local(job)
    ended = asyncio.run(running)
    *pieces, details = json.loads(ended["output"])
    assert ended["status"] == "COMPLETED"
    assert "".join(pieces)
    assert details["receipt"]["pipeline"] == "text-generation"
