"""Jobs on containers: which one gets them, what comes back, what becomes of failures."""

import base64
import logging
import math
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from shared.errors import (
    Cancelled,
    DeadlineExceeded,
    InsufficientCapacity,
    Internal,
    InvalidInput,
    JobError,
    MediaTooLarge,
    Stopped,
)
from shared.job import Job
from shared.media.source import data_url
from shared.receipts import verify
from shared.runner import Runner
from tests.clock import Clock
from tests.shared.nodes.fronts import WAIT_S, front, run
from tests.shared.nodes.stand_in import MODEL, PICTURE, Answer, StandIn, capabilities, drawn, refused

WARM = Answer(body=capabilities(warm=True))


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
        _until(node.posts)
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


ELSEWHERE = {
    "lost": Answer(drop=True),
    "truncated": Answer(body=b"{", headers={"Content-Length": "100"}),
    "no JSON": Answer(body=b"<html>"),
    "no result": Answer(body=[]),
    "no files": Answer(body={"images": []}),
    "not a file": Answer(body={"images": [{"url": "data:image/png;base64,AAAA", "seed": 1}]}),
    "not base64": Answer(body={"images": [{"url": "data:image/png;base64,#", "seed": 1}]}),
    "no picture at all": Answer(body={"images": [1]}),
    "another model's": Answer(body=drawn("acme/other")),
    "other bytes": Answer(body=drawn(outputs=[{"sha256": "0" * 64}])),
    "a receipt of nothing": Answer(body=drawn(outputs=5)),
    "a link to no file": Answer(body={**drawn(), "images": [{"url": "javascript:alert(1)", "seed": 1}]}),
    "a type with a line of its own": Answer(
        body={**drawn(), "images": [{"url": data_url(PICTURE, "image/png\r\nX: 1"), "seed": 1}]}
    ),
    "numbers that JSON does not have": Answer(body=drawn(steps=math.nan)),
    "gateway": Answer(502, b"<html>"),
    "no gateway": Answer(504, b""),
    "draining": refused(503, "insufficient_capacity"),
    "out of memory": refused(503, "out_of_memory"),
    "model unavailable": refused(503, "model_unavailable"),
    "full": refused(429, "queue_full"),
    "cancelled by its end": refused(499, "cancelled"),
    "device lost": refused(500, "internal", retryable=True),
    "token refused": refused(401, "unauthorized"),
    "no such route": Answer(404, {"detail": "Not Found"}),
    "another model": refused(400, "invalid_input"),
    "smaller limits": refused(413, "media_too_large"),
    "full, by Livepeer's statuses": refused(500, "queue_full"),
    "loops": Answer(307, headers={"Location": "/draw"}),
}


@pytest.mark.parametrize("answer", ELSEWHERE.values(), ids=ELSEWHERE.keys())
def test_the_next_node_gets_what_the_first_one_did_not_do(tmp_path: Path, answer: Answer) -> None:
    with StandIn(about=WARM, otherwise=answer) as first, StandIn() as second:
        result = run(front(tmp_path, first.url, second.url))
    assert result["metrics"]["node"] == "node-2"
    assert len(second.posts()) == 1


FINAL: dict[str, tuple[Answer, type[JobError] | type[Stopped]]] = {
    "parameters": (
        Answer(422, {"detail": [{"loc": ["body", "side"], "msg": "too large here", "type": "x"}]}),
        InvalidInput,
    ),
    "a bug": (refused(500, "internal"), Internal),
    "its deadline": (refused(504, "deadline_exceeded"), DeadlineExceeded),
}


@pytest.mark.parametrize(("answer", "ending"), FINAL.values(), ids=FINAL.keys())
def test_what_ended_the_job_itself_is_not_tried_again(
    tmp_path: Path, answer: Answer, ending: type[BaseException]
) -> None:
    with StandIn(answer, about=WARM) as first, StandIn() as second, pytest.raises(ending):
        run(front(tmp_path, first.url, second.url))
    assert second.posts() == []


def test_a_code_counts_more_than_the_status_by_which_livepeers_node_is_told(tmp_path: Path) -> None:
    with StandIn(refused(400, "media_too_large")) as node, pytest.raises(MediaTooLarge):
        run(front(tmp_path, node.url))


def test_what_a_node_finds_wrong_is_told_field_by_field(tmp_path: Path) -> None:
    answer, _ = FINAL["parameters"]
    with StandIn(answer) as node, pytest.raises(InvalidInput, match="side: too large here") as error:
        run(front(tmp_path, node.url))
    assert error.value.detail["errors"] == [{"loc": ["side"], "msg": "too large here", "type": "x"}]


def test_where_no_node_is_left_the_last_one_s_error_says_when_to_come_again(tmp_path: Path) -> None:
    full = refused(429, "queue_full")
    with StandIn(otherwise=full) as a, StandIn(otherwise=full) as b, pytest.raises(JobError) as error:
        run(front(tmp_path, a.url, b.url, clock=Clock()))
    assert (error.value.code, error.value.detail) == ("queue_full", {"retry_after_s": 7})


def test_a_node_that_failed_is_left_alone_and_tried_again(tmp_path: Path) -> None:
    clock = Clock()
    with StandIn(Answer(drop=True), Answer(drop=True)) as node:
        runner = front(tmp_path, node.url, clock=clock)
        for wait_s in (1, 2):
            with pytest.raises(InsufficientCapacity) as gone:
                run(runner)
            assert gone.value.detail == {"retry_after_s": wait_s}
            with pytest.raises(InsufficientCapacity, match="no node"):
                run(runner)
            clock.advance(wait_s + 0.1)
        assert run(runner)["images"]
        assert len(node.posts()) == 3


def test_who_waits_for_a_place_does_not_fail_with_whom_the_node_refused(tmp_path: Path) -> None:
    clock, held = Clock(), threading.Event()
    answers = [
        Answer(body=drawn(), hold=held),
        Answer(429, refused(429, "queue_full").body, {"Retry-After": "7"}, hold=held),
    ]
    with StandIn(*answers) as node:
        runner = front(tmp_path, node.url, clock=clock)
        futures = []
        for n in range(3):
            futures.append(runner.submit(Job(f"job-{n}", {"pipeline": "draw"})))
            _until(lambda n=n: len(node.posts()) + _waiting(runner) == n + 1)
        held.set()
        futures[0].result(WAIT_S)
        with pytest.raises(JobError) as full:
            futures[1].result(WAIT_S)
        assert full.value.code == "queue_full"
        clock.advance(7.1)
        assert futures[2].result(WAIT_S)["images"]


def test_a_job_of_a_queue_waits_until_a_node_may_be_asked_again(tmp_path: Path) -> None:
    """Else a queue would be emptied into failures while its only node is started anew."""
    clock = Clock()
    with StandIn(Answer(drop=True)) as node:
        runner = front(tmp_path, node.url, clock=clock)
        with pytest.raises(InsufficientCapacity, match="gone"):
            run(runner)
        future = runner.submit(Job("job", {"pipeline": "draw"}, can_recur=True))
        _until(lambda: _waiting(runner) == 1)
        clock.advance(1.1)
        assert future.result(WAIT_S)["images"]
        assert len(node.posts()) == 2


def test_a_cancel_hangs_up_and_no_other_node_is_asked(tmp_path: Path) -> None:
    with StandIn(Answer(hold=threading.Event()), about=WARM) as node, StandIn() as other:
        job = Job("job", {"pipeline": "draw"})
        future = front(tmp_path, node.url, other.url).submit(job)
        _until(node.posts)
        job.cancel.cancel("enough")
        with pytest.raises(Cancelled, match="enough"):
            future.result(WAIT_S)
        assert node.hung_up.wait(WAIT_S)
    assert other.posts() == []


def test_a_cancel_has_happened_when_it_is_answered(tmp_path: Path) -> None:
    left_the_device = threading.Event()
    with StandIn(Answer(hold=threading.Event())) as node:
        node.cancelled.hold = left_the_device
        job = Job("job", {"pipeline": "draw"})
        future = front(tmp_path, node.url).submit(job)
        _until(node.posts)
        job.cancel.cancel("enough")
        _until(node.cancels)
        assert not future.done()
        left_the_device.set()
        with pytest.raises(Cancelled) as stopped:
            future.result(WAIT_S)
    assert node.cancels() == [node.posts()[0].headers["X-Job-Id"]]
    assert stopped.value.message == "enough"


GONE = refused(404, "not_found")
SILENT = [Answer(drop=True), Answer(404, {"detail": "Not Found"}), Answer(500, b"")]


@pytest.mark.parametrize("answer", [GONE, *SILENT], ids=["gone", "lost", "another program", "broken"])
def test_or_says_that_it_may_not_have(tmp_path: Path, answer: Answer) -> None:
    with StandIn(Answer(hold=threading.Event())) as node:
        node.cancelled = answer
        job = Job("job", {"pipeline": "draw"})
        future = front(tmp_path, node.url).submit(job)
        _until(node.posts)
        job.cancel.cancel("enough")
        with pytest.raises(Cancelled) as stopped:
            future.result(WAIT_S)
    assert stopped.value.message.endswith("has not confirmed that it stopped") == (answer is not GONE)


def test_a_deadline_hangs_up_too(tmp_path: Path) -> None:
    with StandIn(Answer(hold=threading.Event())) as node:
        job = Job("job", {"pipeline": "draw"}, timeout_s=0.1)
        with pytest.raises(DeadlineExceeded):
            front(tmp_path, node.url).submit(job).result(WAIT_S)
        assert node.hung_up.wait(WAIT_S)
    assert node.posts()[0].headers["X-Job-Timeout"] == "0.1"
    assert len(node.cancels()) == 1


def test_a_step_waits_on_its_node_no_longer_than_its_chain_may_run(tmp_path: Path) -> None:
    """Else the chain would keep the device beyond its time, and its worker be taken for stuck."""
    held = threading.Event()
    with StandIn(otherwise=Answer(body=drawn(), hold=held)) as node:
        job = Job("job", {"pipeline": "pair"}, timeout_s=0.4)
        future = front(tmp_path, node.url).submit(job)
        _until(node.posts)
        too_late = threading.Timer(0.6, held.set)
        too_late.start()
        with pytest.raises(DeadlineExceeded):
            future.result(WAIT_S)
        assert node.hung_up.wait(2)  # before it answered
        too_late.cancel()


def test_a_node_has_one_job_more_than_it_runs_and_the_others_wait_in_their_order(tmp_path: Path) -> None:
    holds = [threading.Event() for _ in range(5)]
    with StandIn(*(Answer(body=drawn(), hold=hold) for hold in holds)) as node:
        runner = front(tmp_path, node.url)
        futures = []
        for n in range(5):
            futures.append(runner.submit(Job(f"job-{n}", {"pipeline": "draw", "prompt": str(n)})))
            _until(lambda n=n: len(node.posts()) == min(2, n + 1) and _waiting(runner) == max(0, n - 1))
        for n, hold in enumerate(holds):
            hold.set()
            futures[n].result(WAIT_S)
            _until(lambda n=n: len(node.posts()) == min(5, n + 3))
    assert [asked.body["prompt"] for asked in node.posts()] == list("01234")


def test_a_job_that_waits_for_a_place_can_be_cancelled(tmp_path: Path) -> None:
    held = threading.Event()
    with StandIn(*(Answer(body=drawn(), hold=held) for _ in range(2))) as node:
        runner = front(tmp_path, node.url)
        running = [runner.submit(Job(f"job-{n}", {"pipeline": "draw"})) for n in range(2)]
        _until(lambda: len(node.posts()) == 2)
        job = Job("waits", {"pipeline": "draw"})
        future = runner.submit(job)
        _until(lambda: _waiting(runner) == 1)
        job.cancel.cancel("enough")
        with pytest.raises(Cancelled):
            future.result(WAIT_S)
        held.set()
        for each in running:
            each.result(WAIT_S)
    assert len(node.posts()) == 2


def test_a_node_that_hangs_is_taken_for_dead_and_the_next_one_gets_its_job(tmp_path: Path) -> None:
    clock = Clock()
    with StandIn(Answer(hold=threading.Event()), about=WARM) as hanging, StandIn() as other:
        runner = front(tmp_path, hanging.url, other.url, clock=clock)
        future = runner.submit(Job("job", {"pipeline": "draw"}))
        _until(hanging.posts)
        hanging.about = Answer(drop=True)
        while not future.done():
            clock.advance(4)
            time.sleep(0.02)
        assert future.result(WAIT_S)["metrics"]["node"] == "node-2"
    assert hanging.hung_up.wait(WAIT_S)


def test_a_node_that_is_only_slow_is_not(tmp_path: Path) -> None:
    clock, held = Clock(), threading.Event()
    with StandIn(Answer(body=drawn(), hold=held), about=WARM) as slow, StandIn() as other:
        runner = front(tmp_path, slow.url, other.url, clock=clock)
        future = runner.submit(Job("job", {"pipeline": "draw"}))
        _until(slow.posts)
        for _ in range(3):
            asked = len(slow.asked)
            clock.advance(30)
            _until(lambda asked=asked: len(slow.asked) > asked)
        held.set()
        assert future.result(WAIT_S)["metrics"]["node"] == "node-1"
    assert other.posts() == []


def test_a_token_reaches_the_node_and_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("ACME_TOKEN", "very-secret")
    logger = logging.getLogger("pilotlight")
    monkeypatch.setattr(logger, "propagate", True)
    caplog.set_level("DEBUG", "pilotlight")
    with StandIn(refused(401, "unauthorized")) as node:
        clock = Clock()
        runner = front(tmp_path, node.url, clock=clock, token_env="ACME_TOKEN")
        with pytest.raises(InsufficientCapacity) as error:
            run(runner)
        clock.advance(10)
        result = run(runner)
    assert {asked.headers.get("Authorization") for asked in node.asked} == {"Bearer very-secret"}
    told = f"{error.value.as_dict()}{result}{[record.__dict__ for record in caplog.records]}"
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
        _until(node.posts)
        assert not runner.lane.holds(job)
        held.set()
        result = future.result(WAIT_S)
    assert [asked.body.keys() for asked in node.posts()] == [{"side", "model_id"}, {"image", "model_id"}]
    assert [step["node"]["name"] for step in result["receipt"]["within"]] == ["node-1", "node-1"]
    assert len(result["images"]) == 1


def _waiting(runner: Runner) -> int:
    return runner.forwarder.fleet.counts()[1]


def _until(condition: Any) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.005)
