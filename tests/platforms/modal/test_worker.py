"""One container's worker: how it begins, and how the jobs end that do not run as others do."""

import asyncio
import json
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import handlers
from platforms.modal.journal import Journal
from platforms.modal.worker import ModalWorker
from shared.job import Piece, Progress
from shared.runner import Runner
from shared.settings import Settings
from tests.platforms.harness import until
from tests.platforms.lab import HANDLERS
from tests.platforms.modal.stand_in import Entries, no_models


class Container:
    """A worker, and what Modal would be asked for."""

    def __init__(self, **settings: Any) -> None:
        self.board = Entries()
        self.asked: list[str] = []
        made = Settings(device="cpu", **settings)
        self.worker = ModalWorker(
            Runner(made, handlers.Folders(made.handlers)),
            self.board,
            look_again=lambda: self.asked.append("look again"),
            take_no_more=lambda: self.asked.append("take no more"),
        )

    def start(self) -> None:
        self.worker.before_snapshot(on_card=False)
        self.worker.after_snapshot()

    def run(self, job_input: dict[str, Any], **more: Any) -> dict[str, Any]:
        return asyncio.run(self.worker.run(self.queued(job_input, **more), "fc-1"))

    def queued(self, job_input: dict[str, Any], **more: Any) -> dict[str, Any]:
        """A job that is on the board."""
        job = given(job_input, **more)
        self.board.update({f"{job['id']}/record": record_of(job)})
        return job


def record_of(job: dict[str, Any]) -> dict[str, Any]:
    return {"endpoint": "media", "call": None, "created_ms": job["created_ms"], "webhook": None}


def given(job_input: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A job as the web function queues it."""
    return {
        "id": "job-1",
        "input": job_input,
        "created_ms": round(time.time() * 1000),
        "timeout_s": 60,
        "ttl_s": 60,
        "s3_config": None,
        "is_whole": False,
        **more,
    }


@pytest.fixture
def sleeper(tmp_path: Path) -> Container:
    container = Container(models=no_models(tmp_path), handlers=HANDLERS, pipeline="sleep")
    container.start()
    return container


def test_a_job_that_waited_longer_than_it_may_is_not_run(sleeper: Container, tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    created_ms = round(time.time() * 1000) - 11_000
    ended = sleeper.run({"pipeline": "sleep", "diary": str(diary)}, created_ms=created_ms, ttl_s=10)
    assert (ended["status"], ended["error"].split(":")[0]) == ("TIMED_OUT", "deadline_exceeded")
    assert not diary.exists()


def test_a_job_that_was_cancelled_before_its_call_was_known_is_not_run(sleeper: Container, tmp_path: Path) -> None:
    sleeper.board.update({"job-1/ended": {"status": "CANCELLED"}})
    assert sleeper.run({"pipeline": "sleep", "diary": str(tmp_path / "diary")}) == {"status": "CANCELLED"}
    assert not (tmp_path / "diary").exists()


def test_a_job_that_nobody_can_ask_for_is_not_run(sleeper: Container, tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    job = sleeper.queued({"pipeline": "sleep", "diary": str(diary)})
    for record in (None, {**record_of(job), "created_ms": job["created_ms"] + 1}):  # lost, or that of a second try
        sleeper.board.update({"job-1/record": record})
        assert asyncio.run(sleeper.worker.run(job, "fc-1")) == {"status": "CANCELLED"}
    assert not diary.exists()


def test_a_board_that_is_away_is_an_end_and_no_error_of_the_call(
    sleeper: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(name: str) -> None:
        raise TimeoutError(name)  # which to the web function would mean that the job goes on

    monkeypatch.setattr(sleeper.board, "get", away)
    ended = sleeper.run({"pipeline": "sleep", "ms": 1})
    assert (ended["status"], ended["error"].split(":")[0]) == ("FAILED", "insufficient_capacity")


def test_a_call_that_is_stopped_ends_once_the_job_has_left(sleeper: Container, tmp_path: Path) -> None:
    diary = tmp_path / "diary"

    async def stopped() -> None:
        job = sleeper.queued({"pipeline": "sleep", "ms": 60_000, "steps": 6000, "diary": str(diary)})
        call = asyncio.create_task(sleeper.worker.run(job, "fc-1"))
        while not diary.exists():
            await asyncio.sleep(0.01)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    asyncio.run(stopped())
    assert [line.split()[-2] for line in diary.read_text().splitlines()] == ["start", "end"]
    assert sleeper.asked == []
    assert sleeper.run({"pipeline": "sleep", "ms": 1})["status"] == "COMPLETED"


def test_a_missing_model_is_looked_for_again_and_ends_the_container_not_the_start() -> None:
    container = Container(pipeline="text-generation", model_id="no-such-owner/no-such-model", model_dir=None)
    container.start()
    assert container.asked == ["look again"]
    ended = container.run({"pipeline": "text-generation", "prompt": "a"})
    assert (ended["status"], ended["error"].split(":")[0]) == ("FAILED", "model_unavailable")
    assert container.asked == ["look again", "take no more"]


def test_a_model_that_came_meanwhile_is_found(tmp_path: Path) -> None:
    weights = Path("templates/demo_models/text-generation").resolve()
    late = tmp_path / "late"
    container = Container(pipeline="text-generation", model_id=str(late))
    container.worker._look_again = lambda: late.symlink_to(weights)  # as a volume shows what was committed
    container.start()
    assert container.run({"pipeline": "text-generation", "prompt": "a", "max_tokens": 3})["status"] == "COMPLETED"


def test_text_leaves_in_pieces_and_is_whole_where_that_is_asked_for() -> None:
    container = Container(pipeline="text-generation", model_id="demo/text-generation")
    container.start()
    asked = {"pipeline": "text-generation", "prompt": "hello", "max_tokens": 8, "details": True}
    ended = container.run(asked)
    *pieces, details = json.loads(ended["output"])
    told = [json.loads(text) for kind, text in events(container.board) if kind == "piece"]
    assert told == [*pieces, details]
    whole = json.loads(container.run(asked, id="job-2", is_whole=True)["output"])
    assert whole["text"] == "".join(pieces)
    assert details["usage"] == whole["usage"]


def events(board: Entries, job_id: str = "job-1") -> list[tuple[str, bytes]]:
    starts = board.get(f"{job_id}/state")["starts"]
    return [event for start in starts for event in board.get(f"{job_id}/events/{start}")]


def is_told(board: Entries, n: int) -> bool:
    return bool(board.get("j/state")["next"] == n)


class TestJournal:
    """What is written to the board."""

    def test_numbers_go_on_where_a_job_begins_anew(self) -> None:
        board = Entries()
        first = Journal(board, "j", call="fc-1", worker="a")
        for text in ("x", "y"):
            first.hear(Piece(text))
        first.close()
        second = Journal(board, "j", call="fc-2", worker="b")
        second.hear(Piece("z"))
        second.close()
        state = board.get("j/state")
        assert (state["runs"], state["first"], state["next"], state["call"]) == (2, 2, 3, "fc-2")
        assert board.get("j/events/2") == [("piece", b'"z"')]

    def test_pictures_stay_in_sight_and_are_not_told_again(self) -> None:
        board = Entries()
        journal = Journal(board, "j", call="fc-1", worker="a")
        journal.hear(Progress(1, "running", 1, 2, preview="data:image/png;base64,AA=="))
        until(lambda: board.get("j/state")["next"] == 1)
        journal.hear(Progress(2, "running", 2, 2))
        journal.close()
        assert board.get("j/state")["progress"]["preview"] == "data:image/png;base64,AA=="
        assert [json.loads(text) for _, text in events(board, "j")] == [
            {"seq": 1, "stage": "running", "step": 1, "steps": 2},
            {"seq": 2, "stage": "running", "step": 2, "steps": 2},
        ]

    def test_many_events_are_few_entries(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("platforms.modal.journal.EVERY_S", 0.001)
        board = Entries()
        journal = Journal(board, "j", call="fc-1", worker="a")
        for n in range(1, 40):
            journal.hear(Piece("x" * 1000))
            until(partial(is_told, board, n))
        journal.close()
        assert len(board.get("j/state")["starts"]) == 2
        assert len(events(board, "j")) == 39

    def test_the_last_words_are_tried_again(self) -> None:
        board = Flaky()
        journal = Journal(board, "j", call="fc-1", worker="a")
        board.fails = True
        journal.hear(Piece("x"))
        until(lambda: board.tries == 1)
        closing = threading.Thread(target=journal.close)
        closing.start()
        until(lambda: board.tries > 3)
        board.fails = False
        closing.join()
        assert [text for _, text in events(board, "j")] == [b'"x"']

    def test_a_board_that_fails_loses_nothing_when_it_is_back(self) -> None:
        board = Flaky()
        journal = Journal(board, "j", call="fc-1", worker="a")
        board.fails = True
        for n in range(3):
            journal.hear(Piece(str(n)))
        until(lambda: board.tries > 1)
        board.fails = False
        journal.close()
        assert [text for _, text in events(board, "j")] == [b'"0"', b'"1"', b'"2"']


class Flaky(Entries):
    """A board that now and then cannot be reached."""

    def __init__(self) -> None:
        super().__init__()
        self.fails = False
        self.tries = 0

    def update(self, entries: Any) -> None:
        if self.fails:
            self.tries += 1
            raise ConnectionError("the board is away")
        super().update(entries)
