"""The runner with text: pieces as they are made, whole results, OpenAI's requests, several jobs on one model."""

import hashlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import handlers
from shared import openai
from shared.errors import Cancelled, DeadlineExceeded, InvalidInput, NotFound, OutOfMemory, ResultTooLarge
from shared.job import Event, Job, Piece, Progress
from shared.runner import Runner
from shared.settings import Settings
from tests.clock import Clock
from tests.shared.models.folders import write_files

WAIT_S = 60
HANDLERS = Path(__file__).parent / "text_handlers"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models.json with a folder for each of both pipelines."""
    folder = tmp_path_factory.mktemp("text")
    model = str(write_files(folder / "model"))
    file = folder / "models.json"
    file.write_text(json.dumps([{"pipeline": name, "model_id": model} for name in ("meet", "recite")]))
    return file


def make(models: Path, **more: Any) -> Runner:
    return Runner(Settings(models=models, device="cpu", **more), handlers.Folders(HANDLERS))


@pytest.fixture(scope="module")
def reciting(models: Path) -> Iterator[Runner]:
    runner = make(models, pipeline="recite")
    yield runner
    runner.lane.close()


@pytest.fixture
def meeting(models: Path) -> Iterator[Runner]:
    runner = make(models, pipeline="meet")
    yield runner
    runner.lane.close()


class Heard:
    """The pieces of a job, and what it was told after each."""

    def __init__(self, job: Job, *, cancel_after: int | None = None) -> None:
        self.pieces: list[Any] = []
        self.threads: set[str] = set()
        self._job = job
        self._cancel_after = cancel_after
        job.events = self

    def __call__(self, event: Event) -> None:
        if isinstance(event, Progress):
            assert not self.pieces or event.stage == "delivering"
            return
        assert isinstance(event, Piece)
        self.pieces.append(event.value)
        self.threads.add(threading.current_thread().name)
        if len(self.pieces) == self._cancel_after:
            self._job.cancel.cancel("asked")


def run(runner: Runner, **given: Any) -> tuple[list[Any], dict[str, Any]]:
    """The pieces and the result of one job."""
    job = Job("job", {"pipeline": "recite", **given})
    heard = Heard(job)
    return heard.pieces, runner.submit(job).result(WAIT_S)


def test_pieces_leave_from_one_thread_in_their_order(reciting: Runner) -> None:
    words = [f"{n} " for n in range(100)]
    job = Job("job", {"words": words})
    heard = Heard(job)
    result = reciting.submit(job).result(WAIT_S)
    assert heard.pieces == words
    assert len(heard.threads) == 1
    assert result["text"] == "".join(words)


def test_a_text_says_how_it_ended_and_what_it_took(reciting: Runner) -> None:
    _, result = run(reciting, words=["a", "b", "c"], max_tokens=2)
    assert result.keys() == {"text", "usage", "finish_reason", "metrics", "receipt"}
    assert (result["text"], result["usage"], result["finish_reason"]) == ("ab", {"completion_tokens": 2}, "length")


def test_without_stream_the_result_is_the_same_and_no_piece_leaves(reciting: Runner) -> None:
    pieces, whole = run(reciting, stream=False)
    _, streamed = run(reciting)
    assert pieces == []
    same = ("text", "usage", "finish_reason")
    assert [whole[name] for name in same] == [streamed[name] for name in same]


def test_empty_words_are_no_pieces(reciting: Runner) -> None:
    pieces, result = run(reciting, words=["", "a", ""])
    assert (pieces, result["text"]) == (["a"], "a")


def test_half_a_surrogate_pair_in_the_input_is_refused(reciting: Runner) -> None:
    deep: list[Any] = ["\ud83d"]
    for _ in range(900):
        deep = [deep]
    for given in ({"words": ["\ud83d"]}, {"\udc00": 1}, {"words": deep}):
        with pytest.raises(InvalidInput, match="surrogate"):
            run(reciting, **given)
    assert run(reciting, words=["\U0001f468"])[1]["text"] == "\U0001f468"


def test_the_receipt_holds_the_hash_of_the_text_and_the_seed_that_was_drawn(reciting: Runner) -> None:
    _, result = run(reciting, words=["é", "日"])
    receipt, data = result["receipt"], "é日".encode()
    expected = {
        "sha256": hashlib.sha256(data).hexdigest(),
        "media_type": "text/plain",
        "bytes": len(data),
        "seed": 7,
    }
    assert receipt["outputs"] == [expected]
    assert (receipt["seed"], receipt["pixels"], receipt["steps"]) == (7, 0, 2)
    assert receipt["params"]["seed"] == 7


def test_a_cancel_stops_the_text_within_one_piece(reciting: Runner) -> None:
    job = Job("job", {"words": ["x"] * 100})
    heard = Heard(job, cancel_after=3)
    with pytest.raises(Cancelled, match="asked"):
        reciting.submit(job).result(WAIT_S)
    assert heard.pieces == ["x"] * 3
    assert run(reciting)[1]["text"] == "one two"


def test_a_text_over_its_deadline_stops(reciting: Runner) -> None:
    clock = Clock()

    def one_second_a_piece(event: Event) -> None:
        clock.now += isinstance(event, Piece)

    job = Job("job", {"words": ["x"] * 100}, events=one_second_a_piece, clock=clock, timeout_s=5)
    with pytest.raises(DeadlineExceeded):
        reciting.submit(job).result(WAIT_S)
    assert clock.now == 6


def test_out_of_memory_before_the_first_word_is_tried_again(reciting: Runner) -> None:
    pieces, result = run(reciting, words=["a", "b"], fail_at=0, fail="first")
    assert (pieces, result["text"]) == (["a", "b"], "ab")


def test_out_of_memory_after_a_word_has_left_is_not(reciting: Runner) -> None:
    job = Job("job", {"words": ["a", "b"], "fail_at": 1, "fail": "second"})
    heard = Heard(job)
    with pytest.raises(OutOfMemory, match="middle of the text"):
        reciting.submit(job).result(WAIT_S)
    assert heard.pieces == ["a"]


def test_out_of_memory_where_no_word_leaves_before_the_end_is_tried_again(reciting: Runner) -> None:
    pieces, result = run(reciting, words=["a", "b"], fail_at=1, fail="third", stream=False)
    assert (pieces, result["text"], result["receipt"]["steps"]) == ([], "ab", 2)


def test_a_text_that_the_platform_does_not_carry_is_refused(reciting: Runner) -> None:
    size = len(json.dumps(run(reciting, words=["é" * 10_000])[1], ensure_ascii=False).encode())
    fits, does_not = (Job("job", {"words": ["é" * 10_000]}, result_limit=size + more) for more in (100, -100))
    assert reciting.submit(fits).result(WAIT_S)["text"] == "é" * 10_000
    with pytest.raises(ResultTooLarge, match="the platform carries"):
        reciting.submit(does_not).result(WAIT_S)


@pytest.mark.parametrize("stream", [True, False])
def test_a_text_ends_as_soon_as_it_is_larger_than_the_platform_carries(reciting: Runner, stream: bool) -> None:
    job = Job("job", {"words": ["ab\n"] * 1000, "most": 1000, "stream": stream}, result_limit=400)
    heard = Heard(job)
    with pytest.raises(ResultTooLarge, match=r"the text is larger than the platform carries \(400 bytes\)"):
        reciting.submit(job).result(WAIT_S)
    assert heard.pieces == ["ab\n"] * (100 if stream else 0), "four bytes of JSON each"
    assert run(reciting)[1]["text"] == "one two"


def ask(route: str = "/v1/completions", **body: Any) -> dict[str, Any]:
    return {"pipeline": None, "openai_route": route, "openai_input": body}


def test_openais_request_is_answered_in_its_shape(reciting: Runner) -> None:
    pieces, result = run(reciting, **ask(prompt="to be"))
    assert (pieces, result["answer"]) == ([], {"text": "to be"})


def test_openais_events_leave_as_pieces(reciting: Runner) -> None:
    pieces, result = run(reciting, **ask(prompt="to be", stream=True))
    assert pieces == [openai.event({"text": "to be"}), openai.DONE]
    assert "answer" not in result


def test_openais_models_are_the_ones_of_the_pipelines_that_answer_it(reciting: Runner, models: Path) -> None:
    model = json.loads(models.read_text())[0]["model_id"]
    _, listed = run(reciting, openai_route="/v1/models")
    assert [known["id"] for known in listed["answer"]["data"]] == [model]
    with pytest.raises(NotFound, match="no model 'other'"):
        run(reciting, openai_route="/v1/models/other")


@pytest.mark.parametrize(
    ("given", "failure", "complaint"),
    [
        (ask("/v1/images"), NotFound, "no route '/v1/images'; there are: /v1/chat/completions"),
        (ask(model="other"), NotFound, "'other' is not in this worker's catalog"),
        ({**ask(), "openai_input": "to be"}, InvalidInput, "body: Input should be a valid dictionary"),
        ({**ask(), "openai_input": None}, InvalidInput, "body: Field required"),
        ({**ask(), "openai_route": 5}, InvalidInput, "openai_route: Input should be a valid string"),
        (ask(prompt="\ud83d"), InvalidInput, "surrogate"),
    ],
)
def test_what_openais_api_does_not_know_is_refused(
    reciting: Runner, given: dict[str, Any], failure: type[Exception], complaint: str
) -> None:
    with pytest.raises(failure, match=complaint):
        run(reciting, **given)


def test_an_unknown_model_has_openais_code(reciting: Runner) -> None:
    with pytest.raises(NotFound) as caught:
        run(reciting, **ask(model="other"))
    assert openai.error(caught.value)["error"]["code"] == "model_not_found"


def test_a_worker_whose_pipelines_do_not_answer_openai_says_so(meeting: Runner) -> None:
    with pytest.raises(NotFound, match="no pipeline that answers OpenAI's API"):
        run(meeting, **ask())


def test_two_jobs_are_on_a_model_that_has_two_places(meeting: Runner) -> None:
    """Each waits for the other. The first one alone tells how many places there are."""
    alone = meeting.submit(Job("first", {"wait": False}))
    assert alone.result(WAIT_S)["text"] == "alone"
    assert (meeting.lane.slots, meeting.backlog.slots) == (2, 2)
    both = [meeting.submit(Job(f"job-{n}", {"wait": True})) for n in range(2)]
    assert [future.result(WAIT_S)["text"] for future in both] == ["met", "met"]


def test_jobs_that_came_before_the_model_was_loaded_share_it_too(meeting: Runner) -> None:
    both = [meeting.submit(Job(f"job-{n}", {"wait": True})) for n in range(2)]
    assert [future.result(WAIT_S)["text"] for future in both] == ["met", "met"]


def test_where_another_pipeline_needs_the_device_alone_jobs_run_one_by_one(tmp_path: Path, models: Path) -> None:
    (tmp_path / "alone.py").write_text((HANDLERS / "meet.py").read_text().replace("concurrent=True, ", ""))
    (tmp_path / "meet.py").write_text((HANDLERS / "meet.py").read_text())
    entries = [{**entry, "pipeline": name} for name, entry in zip(("meet", "alone"), _entries(models), strict=True)]
    file = tmp_path / "models.json"
    file.write_text(json.dumps(entries))
    runner = Runner(Settings(models=file, device="cpu"), handlers.Folders(tmp_path))
    assert runner.submit(Job("job", {"pipeline": "meet", "wait": False})).result(WAIT_S)["text"] == "alone"
    assert (runner.lane.slots, runner.backlog.slots) == (1, 1)
    runner.lane.close()


def _entries(models: Path) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = json.loads(models.read_text())
    return entries


def test_a_worker_streams_where_all_that_it_serves_does(models: Path) -> None:
    folders = handlers.Folders(HANDLERS)
    assert Runner(Settings(models=models, device="cpu"), folders).planner.streams
    assert make(models, pipeline="meet").planner.concurrent


def test_a_worker_does_not_stream_where_one_pipeline_draws(tmp_path: Path) -> None:
    file = tmp_path / "models.json"
    file.write_text("[]")
    extra = HANDLERS.with_name("extra_handlers")
    assert not Runner(Settings(models=file, device="cpu"), handlers.Folders(extra)).planner.streams
