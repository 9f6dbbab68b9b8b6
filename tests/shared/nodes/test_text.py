"""Text from containers: passed on piece by piece, and from one node only."""

import threading
from pathlib import Path
from typing import Any

import pytest

from shared.errors import Cancelled, InsufficientCapacity, Internal, JobError, NotFound
from shared.job import Event, Job, Piece
from shared.runner import Runner
from tests.shared.nodes.fronts import WAIT_S, front
from tests.shared.nodes.stand_in import BREAK, MODEL, Answer, StandIn, event, refused

WRITE = {"pipeline": "write", "prompt": "once"}
CLOSING = {
    "usage": {"prompt_tokens": 1, "completion_tokens": 2},
    "finish_reason": "stop",
    "metrics": {"run_s": 0.1},
    "receipt": {"model": {"id": MODEL, "revision": "abc"}, "seed": 5, "outputs": [{"sha256": "0"}]},
}
END = [event(**CLOSING), b"data: [DONE]\n\n"]
TOLD = [event(text="upon "), b": waiting\n\n", event(text="a time"), *END]


def writer(folder: Path, *nodes: StandIn) -> Runner:
    return front(folder, *(node.url for node in nodes), pipeline="write")


def written(runner: Runner, *, job_id: str = "job", **more: Any) -> tuple[dict[str, Any], list[Any]]:
    heard: list[Event] = []
    result = runner.submit(Job(job_id, {**WRITE, **more}, heard.append)).result(WAIT_S)
    return result, [each.value for each in heard if isinstance(each, Piece)]


def test_pieces_are_passed_on_and_the_end_is_the_results(tmp_path: Path) -> None:
    with StandIn(Answer(chunks=TOLD)) as node:
        result, pieces = written(writer(tmp_path, node))
    assert pieces == ["upon ", "a time"]
    assert (result["text"], result["finish_reason"]) == ("upon a time", "stop")
    assert result["usage"] == CLOSING["usage"]
    assert (result["receipt"]["steps"], result["receipt"]["seed"]) == (2, 5)
    assert result["receipt"]["node"]["receipt"] == CLOSING["receipt"]
    assert node.posts()[0].body == {"prompt": "once", "model_id": MODEL, "stream": True}


def test_a_piece_leaves_before_the_next_one_is_there(tmp_path: Path) -> None:
    rest, first = threading.Event(), threading.Event()
    heard: list[Event] = []

    def hear(told: Event) -> None:
        heard.append(told)
        if isinstance(told, Piece):
            first.set()

    with StandIn(Answer(chunks=[TOLD[0], rest, *TOLD[1:]])) as node:
        future = writer(tmp_path, node).submit(Job("job", WRITE, hear))
        assert first.wait(WAIT_S)
        assert not future.done()
        rest.set()
        assert future.result(WAIT_S)["text"] == "upon a time"


def test_an_event_may_come_in_parts(tmp_path: Path) -> None:
    text = b"".join(TOLD)
    with StandIn(Answer(chunks=[text[n : n + 7] for n in range(0, len(text), 7)])) as node:
        assert written(writer(tmp_path, node))[1] == ["upon ", "a time"]


@pytest.mark.parametrize("begin", [[], [b": waiting\n\n"]])
def test_before_its_first_piece_a_text_may_begin_on_another_node(tmp_path: Path, begin: list[bytes]) -> None:
    with StandIn(Answer(chunks=[*begin, BREAK])) as broken, StandIn(Answer(chunks=TOLD)) as other:
        result, pieces = written(writer(tmp_path, broken, other))
    assert pieces == ["upon ", "a time"]
    assert result["metrics"]["node"] == "node-2"


@pytest.mark.parametrize("rest", [[BREAK], [], [b"data: nonsense\n\n"]], ids=["broken", "ended", "nonsense"])
def test_after_it_nobody_gets_the_text_of_two_nodes(tmp_path: Path, rest: list[Any]) -> None:
    with (
        StandIn(Answer(chunks=[TOLD[0], *rest])) as broken,
        StandIn(Answer(chunks=TOLD)) as other,
        pytest.raises((InsufficientCapacity, Internal)),
    ):
        written(writer(tmp_path, broken, other))
    assert other.posts() == []


def test_where_the_text_goes_out_whole_it_may(tmp_path: Path) -> None:
    with StandIn(Answer(chunks=[TOLD[0], BREAK])) as broken, StandIn(Answer(chunks=TOLD)) as other:
        result, pieces = written(writer(tmp_path, broken, other), stream=False)
    assert (pieces, result["text"]) == ([], "upon a time")


def test_an_error_within_the_text_is_the_jobs(tmp_path: Path) -> None:
    failed = event(detail={"code": "internal", "msg": "it broke"})
    with StandIn(Answer(chunks=[TOLD[0], failed])) as node, pytest.raises(Internal, match="it broke"):
        written(writer(tmp_path, node))


def test_a_node_that_answers_whole_is_understood_too(tmp_path: Path) -> None:
    with StandIn(Answer(body={"text": "upon a time", **CLOSING})) as node:
        result, pieces = written(writer(tmp_path, node))
    assert (pieces, result["text"]) == (["upon a time"], "upon a time")


def test_an_answer_without_text_is_no_answer(tmp_path: Path) -> None:
    with StandIn(Answer(body={"texts": []})) as node, pytest.raises(JobError):
        written(writer(tmp_path, node))


def test_a_refusal_goes_to_the_next_node(tmp_path: Path) -> None:
    with StandIn(refused(429, "queue_full")) as full, StandIn(Answer(chunks=TOLD)) as other:
        assert written(writer(tmp_path, full, other))[0]["text"] == "upon a time"


def test_a_cancel_between_two_pieces_hangs_up(tmp_path: Path) -> None:
    job = Job("job", WRITE, lambda told: job.cancel.cancel("enough") if isinstance(told, Piece) else None)
    with StandIn(Answer(chunks=[TOLD[0], threading.Event()])) as node:
        with pytest.raises(Cancelled, match="enough"):
            writer(tmp_path, node).submit(job).result(WAIT_S)
        assert node.hung_up.wait(WAIT_S)


def test_openais_api_is_not_spoken_by_containers(tmp_path: Path) -> None:
    asked = {"openai_route": "/v1/completions", "openai_input": {"prompt": "once"}}
    with StandIn() as node, pytest.raises(NotFound, match="OpenAI"):
        front(tmp_path, node.url, pipeline="write").submit(Job("job", asked)).result(WAIT_S)
    assert node.posts() == []
