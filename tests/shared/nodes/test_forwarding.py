"""Jobs on containers: what is sent, which one gets them, and what comes back."""

import base64
import threading
from pathlib import Path

import pytest

from shared.errors import InsufficientCapacity, InvalidInput
from shared.job import Job
from shared.receipts import verify
from tests.clock import Clock
from tests.lines import Lines
from tests.shared.nodes.fronts import WAIT_S, front, run, until
from tests.shared.nodes.stand_in import MODEL, PICTURE, WARM, Answer, StandIn, capabilities, drawn, refused


def test_a_node_draws_and_the_result_is_ours(tmp_path: Path) -> None:
    with StandIn() as node:
        runner = front(tmp_path, node.url)
        result = run(runner, prompt="a square")
    receipt = result["receipt"]
    assert base64.b64decode(result["images"][0]["url"].partition(",")[2]) == PICTURE
    assert result["images"][0]["seed"] == receipt["seed"] == 7
    assert verify(receipt, str(runner.signer.public_key))
    assert receipt["job_id"] == "job"
    assert receipt["node"] == {"name": "node-1", "receipt": drawn()["receipt"]}
    assert receipt["model"] == {"id": MODEL, "revision": "abc"}
    assert receipt["outputs"][0]["sha256"] == drawn()["receipt"]["outputs"][0]["sha256"]
    assert (receipt["pixels"], receipt["steps"]) == (64, 3)
    assert (result["metrics"]["node"], result["metrics"]["node_metrics"]) == ("node-1", {"run_s": 0.5})


def test_only_what_was_given_is_sent_for_the_rest_is_the_nodes_to_choose(tmp_path: Path) -> None:
    with StandIn() as node:
        result = run(front(tmp_path, node.url, defaults={"side": 16}), prompt="a square")
    assert [(a.path, a.body) for a in node.posts()] == [
        ("/draw", {"prompt": "a square", "side": 16, "model_id": MODEL})
    ]
    assert result["receipt"]["params"] == {"prompt": "a square", "side": 16, "model_id": MODEL}


def test_parameters_are_checked_before_anybody_is_asked(tmp_path: Path) -> None:
    with StandIn() as node, pytest.raises(InvalidInput, match="side"):
        run(front(tmp_path, node.url), side=1000)
    assert node.posts() == []


def test_a_picture_is_sent_as_the_bytes_that_were_checked(tmp_path: Path) -> None:
    with StandIn() as node:
        run(front(tmp_path, node.url), image=base64.b64encode(PICTURE).decode())
    head, _, data = node.posts()[0].body["image"].partition(",")
    assert head.startswith("data:")
    assert base64.b64decode(data) == PICTURE


def test_neither_device_nor_lane_is_asked_for_and_torch_stays_out(tmp_path: Path) -> None:
    held = threading.Event()
    with StandIn(Answer(body=drawn(), hold=held)) as node:
        runner = front(tmp_path, node.url)
        job = Job("job", {"pipeline": "draw"})
        future = runner.submit(job)
        until(node.posts)
        assert (runner.lane.holds(job), len(runner.backlog), runner.backlog.remaining_s()) == (False, 0, 0.0)
        held.set()
        future.result(WAIT_S)
    assert runner.planner.torch_free
    assert runner.warm() is None  # type: ignore[func-returns-value]


def test_a_warm_node_is_preferred_to_one_before_it(tmp_path: Path) -> None:
    with StandIn() as cold, StandIn(about=WARM) as warm:
        result = run(front(tmp_path, cold.url, warm.url))
    assert result["metrics"]["node"] == "node-2"


def test_the_least_busy_of_two_is_preferred(tmp_path: Path) -> None:
    busy = Answer(body=capabilities(warm=True, busy=3))
    with StandIn(about=busy) as first, StandIn(about=WARM) as second:
        result = run(front(tmp_path, first.url, second.url))
    assert result["metrics"]["node"] == "node-2"


@pytest.mark.parametrize("about", [Answer(404), Answer(body=b"no JSON"), Answer(body={"load": 1}), Answer(drop=True)])
def test_a_node_that_tells_nothing_of_itself_is_tried_all_the_same(tmp_path: Path, about: Answer) -> None:
    with StandIn(about=about) as node:
        assert run(front(tmp_path, node.url))["images"]


def test_a_token_reaches_the_node_and_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: Lines
) -> None:
    monkeypatch.setenv("ACME_TOKEN", "very-secret")
    with StandIn(refused(401, "unauthorized")) as node:
        clock = Clock()
        runner = front(tmp_path, node.url, clock=clock, token_env="ACME_TOKEN")
        with pytest.raises(InsufficientCapacity) as error:
            run(runner)
        clock.advance(10)
        result = run(runner)
    assert {asked.headers.get("Authorization") for asked in node.asked} == {"Bearer very-secret"}
    told = f"{error.value.as_dict()}{result}{lines.text()}"
    assert "very-secret" not in told
    assert node.url not in told
    assert "node-1" in told


def test_a_redirect_to_another_host_goes_without_the_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACME_TOKEN", "very-secret")
    with StandIn() as other, StandIn(Answer(307, headers={"Location": f"{other.url}/draw"})) as node:
        assert run(front(tmp_path, node.url, token_env="ACME_TOKEN"))["images"]
    assert [asked.headers.get("Authorization") for asked in other.posts()] == [None]
    assert other.posts()[0].body["model_id"] == MODEL


def test_one_to_the_node_itself_keeps_it_and_is_read_by_get(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACME_TOKEN", "very-secret")
    with StandIn(Answer(303, headers={"Location": "/result?call=1"})) as node:
        node.by = lambda asked: Answer(body=drawn()) if asked.path == "/result?call=1" else None
        assert run(front(tmp_path, node.url, token_env="ACME_TOKEN"))["images"]
    (read,) = [asked for asked in node.asked if asked.path == "/result?call=1"]
    assert (read.method, read.headers["Authorization"], read.body) == ("GET", "Bearer very-secret", None)


def test_a_chain_whose_steps_all_run_on_nodes_leaves_the_device_alone(tmp_path: Path) -> None:
    held = threading.Event()
    with StandIn(Answer(body=drawn(), hold=held)) as node:
        runner = front(tmp_path, node.url)
        job = Job("job", {"pipeline": "pair"})
        future = runner.submit(job)
        until(node.posts)
        assert not runner.lane.holds(job)
        held.set()
        result = future.result(WAIT_S)
    assert [asked.body.keys() for asked in node.posts()] == [{"side", "model_id"}, {"image", "model_id"}]
    assert [step["node"]["name"] for step in result["receipt"]["within"]] == ["node-1", "node-1"]
    assert len(result["images"]) == 1
