"""A worker whose jobs are run by an endpoint in RunPod's shape; the test is that endpoint's worker."""

import json
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
import requests

import handlers
from shared import openai
from shared.errors import (
    Cancelled,
    DeadlineExceeded,
    InsufficientCapacity,
    Internal,
    InvalidInput,
    JobError,
    OutOfMemory,
    ResultTooLarge,
)
from shared.job import Event, Job, Piece, Progress
from shared.runner import Runner
from shared.settings import Settings
from tests.platforms.harness import KEY, TOKEN, Endpoint, until
from tests.shared.nodes.fronts import PIPELINES
from tests.shared.nodes.stand_in import MODEL, PICTURE, StandIn, drawn

WAIT_S = 20
DRAW = {"pipeline": "draw", "prompt": "a square"}
WRITE = {"pipeline": "write", "prompt": "once"}


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENDPOINT_KEY", KEY)


def front(folder: Path, *urls: str, token_env: str = "ENDPOINT_KEY") -> Runner:  # noqa: S107 a name
    file = folder / "models.json"
    entry = {"model_id": MODEL, "url": list(urls), "token_env": token_env}
    file.write_text(json.dumps([{"pipeline": name, **entry} for name in ("draw", "write")]))
    return Runner(Settings(models=file, handlers=PIPELINES), handlers.Folders(PIPELINES))


class Under:
    """A forwarded job under way, and what it tells."""

    def __init__(self, runner: Runner, job_input: dict[str, Any], job_id: str = "job", **more: Any) -> None:
        self.heard: list[Event] = []
        self.job = Job(job_id, job_input, self.heard.append, **more)
        self.future: Future[dict[str, Any]] = runner.submit(self.job)

    def result(self) -> dict[str, Any]:
        return self.future.result(WAIT_S)

    def pieces(self) -> list[Any]:
        return [each.value for each in self.heard if isinstance(each, Piece)]

    def steps(self) -> list[tuple[str, int | None, int | None]]:
        return [(each.stage, each.step, each.steps) for each in self.heard if isinstance(each, Progress)]


def taken(endpoint: Endpoint) -> dict[str, Any]:
    (job,) = until(endpoint.take)
    return dict(job)


def in_queue(endpoint: Endpoint) -> int:
    return int(endpoint.call("GET", "health").json()["jobs"]["inQueue"])


def finish(endpoint: Endpoint, job: dict[str, Any], output: Any) -> None:
    body = json.dumps({"output": output}).encode()
    assert endpoint.done(job["id"], body).status_code == 200


def fail(endpoint: Endpoint, job: dict[str, Any], error: str) -> None:
    assert endpoint.done(job["id"], json.dumps({"error": error}).encode()).status_code == 200


def test_progress_is_passed_on_and_the_result_is_ours(endpoint: Endpoint, tmp_path: Path) -> None:
    under = Under(front(tmp_path, endpoint.url), DRAW)
    job = taken(endpoint)
    assert job["input"] == {"pipeline": "draw", "prompt": "a square", "model_id": MODEL}
    endpoint.progress(job["id"], b'{"status":"IN_PROGRESS","output":{"stage":"running","step":2,"steps":5}}')
    until(lambda: ("running", 2, 5) in under.steps())
    finish(endpoint, job, drawn())
    result = under.result()
    assert result["images"][0]["url"] == drawn()["images"][0]["url"]
    assert result["receipt"]["node"] == {"name": "node-1", "receipt": drawn()["receipt"]}


def test_a_cancel_here_is_one_there(endpoint: Endpoint, tmp_path: Path) -> None:
    under = Under(front(tmp_path, endpoint.url), DRAW)
    job = taken(endpoint)
    under.job.cancel.cancel("enough")
    with pytest.raises(Cancelled) as stopped:
        under.result()
    assert stopped.value.message == "enough"
    assert endpoint.status(job["id"])["status"] == "CANCELLED"


def test_one_in_the_queue_there_too(endpoint: Endpoint, tmp_path: Path) -> None:
    under = Under(front(tmp_path, endpoint.url), DRAW)
    until(lambda: in_queue(endpoint) == 1)
    under.job.cancel.cancel("enough")
    with pytest.raises(Cancelled):
        under.result()
    assert in_queue(endpoint) == 0


def test_an_endpoint_is_told_how_long_the_job_may_run(endpoint: Endpoint, tmp_path: Path) -> None:
    under = Under(front(tmp_path, endpoint.url), DRAW, timeout_s=7)
    job = taken(endpoint)
    assert job["policy"] == {"executionTimeout": 7000}
    endpoint.clock.advance(8)
    endpoint.ping("w1", job["id"])
    endpoint.tick()
    with pytest.raises(DeadlineExceeded):
        under.result()


def test_a_worker_that_gets_the_job_again_finds_the_one_that_runs(endpoint: Endpoint, tmp_path: Path) -> None:
    first, second = (Under(front(tmp_path, endpoint.url), DRAW, "same", can_recur=True) for _ in range(2))
    job = taken(endpoint)
    finish(endpoint, job, drawn())
    assert first.result()["images"] == second.result()["images"]
    assert in_queue(endpoint) == 0


def test_what_failed_there_runs_anew_when_its_queue_hands_it_out_again(endpoint: Endpoint, tmp_path: Path) -> None:
    """As `retry` does, under the same id."""
    first = Under(front(tmp_path, endpoint.url), DRAW, "same", can_recur=True)
    fail(endpoint, taken(endpoint), "internal: for once")
    with pytest.raises(Internal):
        first.result()
    second = Under(front(tmp_path, endpoint.url), DRAW, "same", can_recur=True)
    finish(endpoint, taken(endpoint), drawn())
    assert second.result()["images"]


def test_so_does_what_has_other_parameters_or_less_time_then(endpoint: Endpoint, tmp_path: Path) -> None:
    """As a step of a chain has, whose worker was lost."""
    for timeout_s in (9, 7):
        under = Under(front(tmp_path, endpoint.url), DRAW, "same", can_recur=True, timeout_s=timeout_s)
        finish(endpoint, taken(endpoint), drawn())
        assert under.result()["images"]


def test_jobs_that_only_share_a_name_are_two(endpoint: Endpoint, tmp_path: Path) -> None:
    for _ in range(2):
        under = Under(front(tmp_path, endpoint.url), DRAW, "same")
        finish(endpoint, taken(endpoint), drawn())
        assert under.result()["images"]


@pytest.mark.parametrize(
    ("error", "ending"),
    [
        ("invalid_input: side: too large here", InvalidInput),
        ("internal: an error of this worker; its log has it under 12ab", Internal),
    ],
)
def test_what_ended_the_job_itself_is_not_tried_again(
    endpoint: Endpoint, tmp_path: Path, error: str, ending: type[JobError]
) -> None:
    with StandIn() as other:
        under = Under(front(tmp_path, endpoint.url, other.url), DRAW)
        fail(endpoint, taken(endpoint), error)
        with pytest.raises(ending):
            under.result()
    assert other.posts() == []


@pytest.mark.parametrize("error", ["out_of_memory: too large", "result_too_large: 12 MB", "queue_full: later"])
def test_what_another_node_may_do_it_gets(endpoint: Endpoint, tmp_path: Path, error: str) -> None:
    with StandIn() as other:
        under = Under(front(tmp_path, endpoint.url, other.url), DRAW)
        fail(endpoint, taken(endpoint), error)
        assert under.result()["metrics"]["node"] == "node-2"


@pytest.mark.parametrize(
    ("error", "ending", "told"),
    [("out_of_memory: too large", OutOfMemory, True), ("result_too_large: 12 MB", ResultTooLarge, False)],
)
def test_where_there_is_no_other_its_error_is_the_jobs(
    endpoint: Endpoint, tmp_path: Path, error: str, ending: type[JobError], told: bool
) -> None:
    under = Under(front(tmp_path, endpoint.url), DRAW)
    fail(endpoint, taken(endpoint), error)
    with pytest.raises(ending) as raised:
        under.result()
    assert ("retry_after_s" in raised.value.detail) == told


@pytest.mark.parametrize("output", [None, [], {"images": []}, drawn("acme/other")])
def test_an_answer_that_cannot_be_this_jobs_is_none(endpoint: Endpoint, tmp_path: Path, output: Any) -> None:
    with StandIn() as other:
        under = Under(front(tmp_path, endpoint.url, other.url), DRAW)
        finish(endpoint, taken(endpoint), output)
        assert under.result()["metrics"]["node"] == "node-2"


def test_a_wrong_key_is_the_operators_affair_and_not_the_clients(
    endpoint: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WRONG_KEY", "very-secret")
    with pytest.raises(InsufficientCapacity) as error:
        Under(front(tmp_path, endpoint.url, token_env="WRONG_KEY"), DRAW).result()
    assert "very-secret" not in str(error.value)


def test_an_endpoint_that_is_not_there_is_passed_over(tmp_path: Path) -> None:
    with StandIn() as other:
        under = Under(front(tmp_path, "http://127.0.0.1:9/v2/media", other.url), DRAW)
        assert under.result()["metrics"]["node"] == "node-2"


def test_a_file_that_the_endpoint_keeps_is_fetched_for_its_link_opens_with_our_key(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    under = Under(front(tmp_path, endpoint.url), DRAW)
    job = taken(endpoint)
    place = f"{endpoint.url}/files/{job['id']}/0.png"
    stored = requests.put(place, data=PICTURE, headers={"Authorization": TOKEN}, timeout=30).json()["url"]
    finish(endpoint, job, {**drawn(), "images": [{"url": stored, "seed": 7, "nsfw": False}]})
    result = under.result()
    assert result["images"][0]["url"] == drawn()["images"][0]["url"]
    assert result["receipt"]["outputs"][0]["bytes"] == len(PICTURE)


def test_a_link_that_anybody_can_open_is_passed_on(endpoint: Endpoint, tmp_path: Path) -> None:
    under = Under(front(tmp_path, endpoint.url), DRAW)
    shown = [{"url": "https://bucket.example/0.png?signature=x", "seed": 7, "nsfw": False}]
    finish(endpoint, taken(endpoint), {**drawn(), "images": shown})
    result = under.result()
    assert result["images"] == shown
    assert result["receipt"]["outputs"] == []
    assert result["receipt"]["node"]["receipt"]["outputs"] == drawn()["receipt"]["outputs"]


def test_where_a_job_wants_its_files_the_endpoint_takes_them(endpoint: Endpoint, tmp_path: Path) -> None:
    delivery = {"put": [{"url": "https://93.184.216.34/0.png?signature=x"}]}
    under = Under(front(tmp_path, endpoint.url), {**DRAW, "delivery": delivery})
    job = taken(endpoint)
    assert job["input"]["delivery"] == delivery
    shown = [{"url": "https://93.184.216.34/0.png", "seed": 7, "nsfw": False}]
    finish(endpoint, job, {**drawn(), "images": shown})
    assert under.result()["images"] == shown


def test_text_comes_piece_by_piece_and_its_end_is_the_results(endpoint: Endpoint, tmp_path: Path) -> None:
    under = Under(front(tmp_path, endpoint.url), WRITE)
    job = taken(endpoint)
    assert (job["input"]["pipeline"], job["input"]["details"]) == ("write", True)
    endpoint.piece(job["id"], b'{"output":"upon "}')
    until(lambda: under.pieces() == ["upon "])
    closing = {
        "usage": {"completion_tokens": 2},
        "finish_reason": "stop",
        "metrics": {},
        "receipt": {"seed": 3, "outputs": [{}]},
    }
    endpoint.piece(job["id"], b'{"output":"a time"}')
    endpoint.piece(job["id"], json.dumps({"output": closing}).encode())
    finish(endpoint, job, [])
    result = under.result()
    assert under.pieces() == ["upon ", "a time"]
    assert (result["text"], result["finish_reason"]) == ("upon a time", "stop")
    assert (result["receipt"]["steps"], result["receipt"]["node"]["receipt"]) == (2, closing["receipt"])


def test_a_text_that_came_at_once_is_understood_too(endpoint: Endpoint, tmp_path: Path) -> None:
    under = Under(front(tmp_path, endpoint.url), WRITE)
    finish(endpoint, taken(endpoint), {"text": "upon a time", "usage": {}, "finish_reason": "stop", "receipt": {}})
    assert under.result()["text"] == "upon a time"


def test_a_cancel_ends_a_text_while_it_waits_for_the_next_piece(endpoint: Endpoint, tmp_path: Path) -> None:
    under = Under(front(tmp_path, endpoint.url), WRITE)
    job = taken(endpoint)
    endpoint.piece(job["id"], b'{"output":"upon "}')
    until(under.pieces)
    under.job.cancel.cancel("enough")
    with pytest.raises(Cancelled, match="enough"):
        under.result()
    assert endpoint.status(job["id"])["status"] == "CANCELLED"


def test_openais_api_passes_through(endpoint: Endpoint, tmp_path: Path) -> None:
    asked = {"openai_route": "/v1/completions", "openai_input": {"prompt": "once", "stream": True}}
    under = Under(front(tmp_path, endpoint.url), asked)
    job = taken(endpoint)
    assert job["input"] == asked
    for text in (openai.event({"choices": []}), openai.DONE):
        endpoint.piece(job["id"], json.dumps({"output": text}).encode())
    finish(endpoint, job, [])
    under.result()
    assert "".join(under.pieces()) == openai.event({"choices": []}) + openai.DONE


def test_and_answers_whole(endpoint: Endpoint, tmp_path: Path) -> None:
    asked = {"openai_route": "/v1/completions", "openai_input": {"prompt": "once"}}
    under = Under(front(tmp_path, endpoint.url), asked)
    finish(endpoint, taken(endpoint), {"choices": [{"text": "upon"}]})
    assert under.result()["answer"] == {"choices": [{"text": "upon"}]}
