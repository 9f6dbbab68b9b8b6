"""The endpoint's API over Modal's calls: jobs that wait, tell, end, fail and are stopped."""

import http.client
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

import handlers
from platforms.modal.web import web_app
from shared.errors import Cancelled, Conflict, Internal, InvalidInput, NotFound
from shared.jobs.client import Client
from shared.settings import Settings
from tests.platforms.harness import until
from tests.platforms.lab import HANDLERS
from tests.platforms.modal.gateway import TOKEN, Gateway
from tests.platforms.modal.stand_in import Entries, FullShelf, MemoryBoard, WorkerCalls, no_models

SHORT = {"pipeline": "sleep", "ms": 1}


class Desk:
    """The application over a board and workers of this process, with the pipelines of tests."""

    def __init__(self, folder: Path, **more: Any) -> None:
        settings = Settings(models=no_models(folder), handlers=HANDLERS, device="cpu", auth_token=TOKEN, **more)
        self.board = Entries()
        self.calls = WorkerCalls(self.board, settings)
        registry = handlers.Folders(HANDLERS)
        board, shelf = MemoryBoard(self.board), FullShelf()
        self.gateway = Gateway(lambda: web_app(settings, registry, board, self.calls, shelf))

    def call(self, method: str, path: str, body: Any = None, **more: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {TOKEN}", **more.pop("headers", {})}
        return requests.request(method, f"{self.gateway.url}{path}", json=body, headers=headers, timeout=30, **more)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    desk = Desk(tmp_path_factory.mktemp("desk"))
    with pytest.MonkeyPatch.context() as patch, desk.gateway:
        patch.setenv("MODAL_TASK_ID", "ta-1")
        yield desk


@pytest.fixture
def client(desk: Desk) -> Iterator[Client]:
    with desk.gateway.client() as client:
        yield client


def held(tmp_path: Path, **more: Any) -> dict[str, Any]:
    """A job that goes on until it is stopped; it writes into a diary when it begins and ends."""
    return {"pipeline": "sleep", "ms": 60_000, "steps": 6000, "diary": str(tmp_path / "diary"), **more}


def diary(tmp_path: Path) -> list[str]:
    file = tmp_path / "diary"
    return [line.split()[-2] for line in file.read_text().splitlines()] if file.exists() else []


def test_nothing_is_answered_without_the_token(desk: Desk) -> None:
    for method, path in (
        *(("POST", "/v2/media/run"), ("GET", "/v2/media/status/x"), ("GET", "/v2/media/health")),
        *(("POST", "/sleep"), ("POST", "/cancel/x"), ("GET", "/v2/media/openai/v1/models")),
    ):
        answer = desk.call(method, path, {}, headers={"Authorization": "Bearer wrong"})
        assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer"), path
    assert desk.calls.jobs == []
    assert requests.get(f"{desk.gateway.url}/health", timeout=10).status_code == 200


def test_a_job_runs_and_says_where_and_how_long(client: Client) -> None:
    job_id = client.submit({**SHORT, "ms": 100})
    assert client.status(job_id)["status"] in ("IN_QUEUE", "IN_PROGRESS", "COMPLETED")
    result = client.wait(job_id)
    assert result["receipt"]["worker"] == "ta-1"
    status = client.status(job_id)
    assert (status["status"], status["workerId"]) == ("COMPLETED", "ta-1")
    assert status["executionTime"] >= 100
    assert status["delayTime"] >= 0


def test_a_wrong_job_fails_without_a_call(desk: Desk, client: Client) -> None:
    before = len(desk.calls.jobs)
    for wrong in ({"pipeline": "sleep", "ms": -1}, {"pipeline": "fly"}, {"pipeline": "sleep", "speed": 1}):
        answer = desk.call("POST", "/v2/media/run", {"input": wrong}).json()
        assert answer["status"] == "FAILED"
        with pytest.raises((InvalidInput, NotFound)):
            client.wait(answer["id"])
    assert len(desk.calls.jobs) == before


def test_progress_is_seen_and_told_again(client: Client) -> None:
    seen: list[dict[str, Any]] = []
    job_id = client.submit({"pipeline": "sleep", "ms": 1500, "steps": 5})
    client.wait(job_id, on_progress=lambda job: seen.append(job))
    steps = [job["output"]["step"] for job in seen if job.get("output", {}).get("step")]
    assert steps
    assert steps == sorted(steps)
    told = [said["progress"] for said in client.events(job_id) if "progress" in said]
    assert [said["seq"] for said in told] == sorted({said["seq"] for said in told})
    assert told == [said["progress"] for said in client.events(job_id) if "progress" in said]


def test_cancel_stops_the_job_and_frees_its_container(client: Client, tmp_path: Path) -> None:
    job_id = client.submit(held(tmp_path))
    until(lambda: diary(tmp_path) == ["start"])
    assert client.cancel(job_id)["status"] == "CANCELLED"
    until(lambda: diary(tmp_path) == ["start", "end"])
    with pytest.raises(Cancelled):
        client.wait(job_id)
    assert "receipt" in client.run(SHORT)


def test_cancel_takes_a_job_out_of_the_queue(client: Client, tmp_path: Path) -> None:
    running = client.submit(held(tmp_path, name="first"))
    until(lambda: diary(tmp_path) == ["start"])
    waiting = client.submit(held(tmp_path, name="second"))
    assert client.status(waiting)["status"] == "IN_QUEUE"
    assert client.cancel(waiting)["status"] == "CANCELLED"
    client.cancel(running)
    assert "receipt" in client.run(SHORT)
    assert diary(tmp_path) == ["start", "end"]


def test_cancel_leaves_what_has_ended(client: Client) -> None:
    job_id = client.submit(SHORT)
    client.wait(job_id)
    assert client.cancel(job_id)["status"] == "COMPLETED"
    assert client.status(job_id)["status"] == "COMPLETED"


def test_a_job_that_breaks_says_no_more_than_its_code(client: Client) -> None:
    with pytest.raises(Internal) as broken:
        client.run({**SHORT, "fail": "secret-of-the-worker"})
    assert "secret" not in str(broken.value)


def test_the_same_key_is_the_same_job(desk: Desk, client: Client) -> None:
    before = len(desk.calls.jobs)
    first = client.submit(SHORT, idempotency_key="k1")
    assert client.submit(SHORT, idempotency_key="k1") == first
    assert len(desk.calls.jobs) == before + 1
    with pytest.raises(Conflict):
        client.submit({**SHORT, "name": "another"}, idempotency_key="k1")


def test_a_key_whose_job_was_never_queued_queues_it(desk: Desk, client: Client) -> None:
    first = client.submit(SHORT, idempotency_key="k2")
    del desk.board.all[f"{first}/record"]  # the container that took it was lost before it could write more
    assert client.submit(SHORT, idempotency_key="k2") == first
    assert "receipt" in client.wait(first)


def test_a_job_whose_call_is_not_known_is_found_by_what_it_tells(desk: Desk, client: Client) -> None:
    job_id = client.submit({**SHORT, "ms": 200})
    desk.board.update({f"{job_id}/record": {**desk.board.get(f"{job_id}/record"), "call": None}})
    assert "receipt" in client.wait(job_id)


def test_a_job_that_was_never_queued_fails_in_the_end(desk: Desk, client: Client) -> None:
    record: dict[str, Any] = {"endpoint": "media", "call": None, "input": {}, "webhook": None}
    now_ms = round(time.time() * 1000)
    desk.board.update({"young/record": {**record, "created_ms": now_ms}})
    desk.board.update({"old/record": {**record, "created_ms": now_ms - 200_000}})
    assert client.status("young")["status"] == "IN_QUEUE"
    with pytest.raises(Internal, match="submit it again"):
        client.wait("old")


def test_what_modal_does_not_keep_is_not_found(desk: Desk, client: Client) -> None:
    job_id = client.submit(SHORT)
    client.wait(job_id)
    with pytest.raises(NotFound):
        client.status("never-was")
    del desk.calls.tasks[desk.board.get(f"{job_id}/record")["call"]]
    with pytest.raises(NotFound):
        client.status(job_id)


def test_what_modal_cannot_do_is_said(desk: Desk, client: Client) -> None:
    job_id = client.submit(SHORT)
    for method, path in (("POST", f"retry/{job_id}"), ("POST", "purge-queue"), ("GET", f"status/{job_id}?ttl=20000")):
        answer = desk.call(method, f"/v2/media/{path}")
        assert (answer.status_code, answer.json()["error"].split(":")[0]) == (501, "not_supported"), path


def test_health_counts_what_modal_counts(client: Client, tmp_path: Path) -> None:
    running = client.submit(held(tmp_path))
    until(lambda: diary(tmp_path) == ["start"])
    waiting = client.submit(held(tmp_path))
    health = client.health()
    assert health["jobs"] == {"inQueue": 1, "inProgress": 1}
    assert health["workers"]["running"] == 1
    client.cancel(waiting)
    client.cancel(running)
    until(lambda: client.health()["workers"]["idle"])


class TestSynchronous:
    """The routes that wait for their job."""

    def test_answers_the_result(self, desk: Desk) -> None:
        answer = desk.call("POST", "/sleep", {"ms": 1})
        assert (answer.status_code, answer.json()["receipt"]["pipeline"]) == (200, "sleep")

    def test_a_wrong_request_is_not_queued(self, desk: Desk) -> None:
        before = len(desk.calls.jobs)
        answer = desk.call("POST", "/sleep", {"ms": -1})
        assert (answer.status_code, answer.json()["detail"][0]["loc"]) == (422, ["body", "ms"])
        assert len(desk.calls.jobs) == before

    def test_a_client_that_leaves_cancels_its_job_which_can_be_asked_for(self, desk: Desk, tmp_path: Path) -> None:
        leaving = http.client.HTTPConnection(desk.gateway.url.removeprefix("http://"))
        body = {name: value for name, value in held(tmp_path).items() if name != "pipeline"}
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json", "X-Job-Id": "mine"}
        leaving.request("POST", "/sleep", json.dumps(body), headers)
        until(lambda: diary(tmp_path) == ["start"])
        leaving.close()
        until(lambda: diary(tmp_path) == ["start", "end"])
        until(lambda: desk.call("GET", "/v2/media/status/mine").json()["status"] == "CANCELLED")

    def test_a_job_that_outlasts_the_request_goes_on(
        self, desk: Desk, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("platforms.modal.performer.LONGEST_WAIT_S", 0.5)
        body = {name: value for name, value in held(tmp_path).items() if name != "pipeline"}
        answer = desk.call("POST", "/sleep", body)
        assert answer.status_code == 202
        job_id = answer.json()["id"]
        assert answer.headers["Location"] == f"/v2/media/status/{job_id}"
        until(lambda: diary(tmp_path) == ["start"])
        assert desk.call("GET", answer.headers["Location"]).json()["status"] == "IN_PROGRESS"
        assert client.cancel(job_id)["status"] == "CANCELLED"

    def test_a_text_that_outlasts_the_request_says_where_it_goes_on(
        self, desk: Desk, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("platforms.modal.performer.LONGEST_STREAM_S", 2)
        gate = tmp_path / "gate"
        answer = desk.call("POST", "/tell", {"stream": True, "gate": str(gate)})
        *told, last = [json.loads(line.removeprefix("data: ")) for line in answer.text.split("\n\n") if line]
        detail = last["detail"]  # the last event's, or where no piece was there by then, the answer's
        job_id = detail["job_id"]
        assert detail["code"] == "deadline_exceeded"
        assert f"GET /v2/media/stream/{job_id}?from={detail['next']} has the rest" in detail["msg"]
        gate.touch()
        rest = [event["piece"] for event in client.events(job_id, detail["next"]) if "piece" in event]
        assert "".join([said["text"] for said in told] + rest) == "one two three"
        assert client.wait(job_id)["text"] == "one two three"

    def test_is_cancelled_from_any_container(self, desk: Desk, client: Client, tmp_path: Path) -> None:
        assert desk.call("POST", "/cancel/nobody").status_code == 404
        job_id = client.submit(held(tmp_path))  # no request of this container waits for it
        until(lambda: diary(tmp_path) == ["start"])
        assert desk.call("POST", f"/cancel/{job_id}").json() == {"id": job_id, "status": "CANCELLED"}
        until(lambda: diary(tmp_path) == ["start", "end"])
