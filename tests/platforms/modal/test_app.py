"""The deployed app, used as its clients do: containers of Modal's own entry point run the class.

Its pipelines need no torch; those that do are in test_same_everywhere.py.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import requests
from fastapi.testclient import TestClient

from platforms.modal import app
from shared.errors import Cancelled
from shared.jobs.client import Client
from shared.settings import inherited
from tests.platforms.harness import until
from tests.platforms.modal.conftest import AUTH_TOKEN
from tests.platforms.modal.gateway import Gateway, deployed_web
from tests.platforms.modal.plane import ROOT, Plane
from tests.platforms.modal.records import Stock
from tests.platforms.modal.stand_in import Entries
from tests.platforms.modal.test_worker import given, record_of

SHORT = {"pipeline": "nap", "ms": 1}
LONG = {"pipeline": "nap", "ms": 60_000, "steps": 6000}
TEXT = {"prompt": "hello", "max_tokens": 20, "seed": 1}


class Deployed:
    """The plane with the app, and its web application on loopback."""

    def __init__(self, plane: Plane, gateway: Gateway) -> None:
        self.plane = plane
        self.gateway = gateway


@pytest.fixture(scope="module")
def modal_app(tmp_path_factory: pytest.TempPathFactory, own_deployed: Stock) -> Iterator[Deployed]:
    """The web application reads the files that were uploaded for it."""
    with ExitStack() as stack:
        plane = stack.enter_context(Plane(tmp_path_factory.mktemp("plane"), own_deployed))
        stack.enter_context(plane.client_env())
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        uploaded = plane.image_env("web")
        for name, value in {"AUTH_TOKEN": AUTH_TOKEN, **{n: uploaded[n] for n in ("HANDLERS", "MODELS")}}.items():
            patch.setenv(name, value)
        yield Deployed(plane, stack.enter_context(Gateway(deployed_web, AUTH_TOKEN)))


@pytest.fixture
def client(modal_app: Deployed) -> Iterator[Client]:
    with modal_app.gateway.client() as client:
        yield client


def test_a_job_is_seen_on_its_way_and_its_cancel_frees_the_container(modal_app: Deployed, client: Client) -> None:
    job_id = client.submit(LONG)
    seen = until(lambda: (job := client.status(job_id))["status"] != "IN_QUEUE" and job, 90)
    assert seen["status"] == "IN_PROGRESS"
    until(lambda: (client.status(job_id).get("output") or {}).get("step", 0) > 2)
    containers = [task.id for task in modal_app.plane.tasks("Engine.*")]
    assert client.cancel(job_id)["status"] == "CANCELLED"
    with pytest.raises(Cancelled):
        client.wait(job_id)
    assert client.run(SHORT)["receipt"]["pipeline"] == "nap"
    assert [task.id for task in modal_app.plane.tasks("Engine.*")] == containers


def test_a_handler_of_ones_own_is_a_route_too(modal_app: Deployed) -> None:
    headers = {"Authorization": f"Bearer {AUTH_TOKEN}"}
    answer = requests.post(f"{modal_app.gateway.url}/nap", json={"ms": 1}, headers=headers, timeout=60)
    assert (answer.status_code, answer.json()["receipt"]["pipeline"]) == (200, "nap")


def test_a_container_runs_as_many_jobs_at_once_as_its_model_has_places(client: Client) -> None:
    """Each waits for the other, and there is one container."""
    with ThreadPoolExecutor(2) as threads:
        for said in threads.map(client.run, [{"pipeline": "meet"}] * 2):
            assert said == ["met"]


def test_text_streams_and_is_read_again_from_the_start(modal_app: Deployed) -> None:
    with modal_app.gateway.client("text-generation") as client:
        job_id = client.submit(TEXT)
        pieces = list(client.stream(job_id))
        assert len(pieces) > 3
        assert list(client.stream(job_id)) == pieces
        assert "".join(client.wait(job_id)) == "".join(pieces)


def test_a_result_is_there_for_whoever_asks_later(modal_app: Deployed, client: Client) -> None:
    """Also from another container of the web function, which knows nothing but what is on the board."""
    job_id = client.submit({**SHORT, "steps": 3})
    result = client.wait(job_id)
    another = Gateway(deployed_web, AUTH_TOKEN)
    with another, another.client() as later:
        assert later.wait(job_id) == result
        assert [event["n"] for event in later.events(job_id)] == [event["n"] for event in client.events(job_id)]


def test_pilotlight_run_works_as_it_does_elsewhere(modal_app: Deployed, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "platforms.cli", "run", "text-generation"),
            *("--endpoint", f"{modal_app.gateway.url}/v2/text-generation", "--prompt", "hello"),
            *("--param", "max_tokens=20", "--param", "temperature=0", "--out", str(tmp_path)),
        ],
        env=inherited(PILOTLIGHT_API_KEY=AUTH_TOKEN, XDG_CONFIG_HOME=str(tmp_path)),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Pilotlight" in done.stdout
    assert list(tmp_path.glob("*.json"))


def test_the_web_function_asks_for_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTH_TOKEN", AUTH_TOKEN)
    with TestClient(app.web.local()) as web:
        assert web.get("/health").status_code == 200
        for path in ("/v2/media/run", "/nap"):
            assert web.post(path, json={"input": SHORT}).status_code == 401
            assert web.post(path, json={"input": SHORT}, headers={"Authorization": "Bearer no"}).status_code == 401


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
