"""Nodes that fail: who gets the job then, and what the client is told."""

import math
import threading
import time
from pathlib import Path

import pytest

from shared.errors import (
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
from tests.clock import Clock
from tests.shared.nodes.fronts import WAIT_S, front, run, until
from tests.shared.nodes.stand_in import PICTURE, WARM, Answer, StandIn, drawn, refused

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
    "no patience": refused(408, "request_timeout"),
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


def test_a_node_that_hangs_is_taken_for_dead_and_the_next_one_gets_its_job(tmp_path: Path) -> None:
    clock = Clock()
    with StandIn(Answer(hold=threading.Event()), about=WARM) as hanging, StandIn() as other:
        runner = front(tmp_path, hanging.url, other.url, clock=clock)
        future = runner.submit(Job("job", {"pipeline": "draw"}))
        until(hanging.posts)
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
        until(slow.posts)
        for _ in range(3):
            asked = len(slow.asked)
            clock.advance(30)
            until(lambda asked=asked: len(slow.asked) > asked)
        held.set()
        assert future.result(WAIT_S)["metrics"]["node"] == "node-1"
    assert other.posts() == []
