"""Text in pieces, through the SDK's generator and the real worker: in order, whole, and nothing after the end."""

import json
from pathlib import Path

import pytest
import requests

from shared import receipts
from shared.errors import InvalidInput, ResultTooLarge
from shared.jobs.outputs import PIECE_LIMIT
from tests.platforms.lab import Lab
from tests.platforms.stage import WORDS, Stage
from tests.shared.models.folders import write_files

MARKS = ["a\u0301", "日本", "\U0001f468\u200d\U0001f469", "\x00\x1f", '"\\', "\u2028", "é", "\U0001d518"]


def test_a_piece_arrives_while_the_job_runs_and_the_others_follow_in_order(stage: Stage) -> None:
    job, gate = stage.held(pieces=WORDS)
    assert stage.pieces(job) == [WORDS[0]]
    assert stage.status(job) == "IN_PROGRESS"
    gate.touch()
    assert "".join(stage.client.stream(job)) == "".join(WORDS)


def test_nothing_is_lost_for_a_second_reader_or_after_the_end(stage: Stage) -> None:
    job = stage.tell(pieces=WORDS)
    first = list(stage.client.stream(job))
    assert "".join(first) == "".join(WORDS)
    assert stage.pieces(job) == first
    assert stage.client.wait(job) == first


def test_no_progress_is_posted_between_pieces_or_after_them(stage: Stage) -> None:
    """The end would wait for it. The endpoint numbers all that it is told of a job."""
    gate = stage.gate()
    job = stage.tell(pieces=WORDS, gate=str(gate), hold=0)
    stage.until_start_is_known(job)
    gate.touch()
    stage.client.wait(job)
    view = stage.stream(job, **{"from": 0})
    numbers = [piece["n"] for piece in view["stream"]]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert view["next"] == numbers[-1] + 2, "the last piece, then the end"


def test_pieces_are_strings_without_anything_else(stage: Stage) -> None:
    assert stage.client.wait(stage.tell(pieces=["a"])) == ["a"]


def test_details_are_the_last_piece(stage: Stage) -> None:
    *text, details = stage.client.wait(stage.tell(pieces=["a", "b"], details=True))
    assert "".join(text) == "ab"
    assert details.keys() == {"usage", "finish_reason", "metrics", "receipt"}
    assert (details["usage"], details["finish_reason"]) == ({"completion_tokens": 2}, "stop")
    assert receipts.verify(details["receipt"], details["receipt"]["public_key"])
    assert details["receipt"]["outputs"][0]["bytes"] == 2


@pytest.mark.parametrize("pieces", [WORDS, [""], []], ids=["words", "empty", "none"])
def test_without_stream_the_text_comes_at_once(stage: Stage, pieces: list[str]) -> None:
    assert stage.client.wait(stage.tell(pieces=pieces, stream=False)) == ["".join(pieces)]


def test_without_stream_nothing_leaves_before_the_end(stage: Stage) -> None:
    gate = stage.gate()
    job = stage.tell(pieces=WORDS, stream=False, gate=str(gate))
    stage.until_start_is_known(job)
    assert stage.pieces(job) == []
    gate.touch()
    assert stage.client.wait(job) == ["".join(WORDS)]


def test_an_empty_text_is_one_empty_piece(stage: Stage) -> None:
    assert stage.client.wait(stage.tell(pieces=[""], times=5)) == [""]


@pytest.mark.parametrize("stream", [True, False])
def test_pieces_are_at_most_900_kb_of_json_each(stage: Stage, stream: bool) -> None:
    text = '日"' * 200_000 + "\n" * 300_000
    pieces = stage.client.wait(stage.tell(pieces=[text], stream=stream))
    assert "".join(pieces) == text
    sizes = [len(json.dumps({"output": piece}, ensure_ascii=False).encode()) for piece in pieces]
    assert len(sizes) == 2
    assert max(sizes) <= PIECE_LIMIT


def test_every_character_arrives_as_it_was(stage: Stage) -> None:
    assert "".join(stage.client.wait(stage.tell(pieces=MARKS, times=50))) == "".join(MARKS) * 50


def test_half_a_character_is_refused_where_it_is_given(stage: Stage) -> None:
    with pytest.raises(InvalidInput, match="surrogate"):
        stage.client.wait(stage.tell(pieces=["\ud83d"]))


def test_a_text_that_the_platform_does_not_carry_ends_the_job_and_says_so(stage: Stage) -> None:
    job = stage.tell(pieces=["x" * 800_000], times=13)
    with pytest.raises(ResultTooLarge, match="carries"):
        stage.client.wait(job)
    assert "".join(stage.pieces(job)) == "x" * 800_000 * 12


def test_a_sync_job_streams_too_and_carries_twice_as_much(stage: Stage) -> None:
    headers = {"Authorization": f"Bearer {stage.endpoint.key}"}
    given = {"pieces": ["x" * 800_000], "times": 13}
    url = f"{stage.endpoint.url}/media/runsync"
    done = requests.post(url, json={"input": given}, headers=headers, timeout=60).json()
    assert done["id"].startswith("sync-")
    assert "".join(done["output"]) == "x" * 800_000 * 13


def test_no_text_is_in_the_log(stage: Stage) -> None:
    stage.client.wait(stage.tell(pieces=["my secret ", "words"]))
    assert "secret words" not in stage.logs()
    assert "my secret" not in stage.logs()


def test_strict_hands_each_piece_out_once(tmp_path: Path) -> None:
    with Stage(tmp_path, strict=True) as stage:
        heard = list(stage.client.stream(job := stage.tell(pieces=WORDS)))
        assert "".join(heard) == "".join(WORDS)
        assert stage.stream(job)["stream"] == []
        assert stage.client.wait(job) == heard


def test_two_jobs_at_once_on_a_model_with_two_places(tmp_path: Path) -> None:
    """Each waits until the other has spoken: neither would end alone."""
    entry = {"pipeline": "converse", "model_id": str(write_files(tmp_path / "model")), "warm": True}
    models = tmp_path / "converse.json"
    models.write_text(json.dumps([entry]))
    with Lab(tmp_path, env={"MODELS": str(models), "PIPELINE": "converse"}) as lab:
        given = {"pipeline": "converse", "folder": str(tmp_path)}
        jobs = {
            name: lab.client.submit({**given, "name": name, "after": other})
            for name, other in (("ada", "bob"), ("bob", "ada"))
        }
        for name, job in jobs.items():
            assert "".join(lab.client.wait(job)) == "".join(f"{name}{turn} " for turn in range(5))
