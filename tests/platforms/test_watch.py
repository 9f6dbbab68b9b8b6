"""Results as the command line saves and shows them."""

import json
from pathlib import Path
from typing import Any

import pytest

from platforms.text import run_text, summary
from platforms.watch import follow, how_far, readable, whole
from shared.errors import DeliveryFailed
from shared.jobs.client import Client
from tests.shared.jobs.scripted import Answer, Scripted


@pytest.mark.parametrize(
    ("output", "result"),
    [
        ({"images": []}, {"images": []}),
        (["a", "b"], {"text": "ab"}),
        (["a", "b", {"finish_reason": "stop"}], {"text": "ab", "finish_reason": "stop"}),
        ("ab", {"text": "ab"}),
        ([], {"text": ""}),
        (None, {"text": ""}),
    ],
)
def test_pieces_are_one_result(output: Any, result: dict[str, Any]) -> None:
    assert whole(output) == result


def test_a_status_is_shown_with_its_text_in_one() -> None:
    assert readable({"status": "COMPLETED", "output": ["a", "b"]}) == {
        "status": "COMPLETED",
        "output": {"text": "ab"},
    }
    assert readable({"status": "IN_QUEUE"}) == {"status": "IN_QUEUE"}
    shown = readable({"output": {"images": [{"url": "data:image/png;base64,AAAA"}]}})
    assert shown["output"]["images"][0]["url"] == "data:image/png;base64,... (26 characters)"


@pytest.mark.parametrize(
    ("where", "shown"),
    [
        ({"stage": "running", "step": 3, "steps": 8}, "step 3/8"),
        ({"stage": "downloading", "step": 1_200_000_000, "steps": 6_900_000_000}, "1.2 of 6.9 GB"),
        ({"stage": "downloading", "step": 0, "steps": 250_000_000}, "0.0 of 250.0 MB"),
        ({"stage": "downloading", "step": 5, "steps": 999}, "5 of 999 bytes"),
        ({"stage": "downloading"}, ""),
    ],
)
def test_a_download_is_shown_in_bytes_and_the_rest_in_steps(where: dict[str, Any], shown: str) -> None:
    assert how_far(where) == shown


def test_a_summary_says_what_is_known() -> None:
    result = {"usage": {"completion_tokens": 7}, "metrics": {"tokens_per_s": 12.34}, "finish_reason": "length"}
    assert summary(result) == "7 tokens, 12 tokens/s, length"
    assert summary({"text": "x"}) == "done"


def test_a_job_submitted_before_is_waited_for_and_saved(tmp_path: Path) -> None:
    made = {"images": [{"url": "data:image/png;base64,AAAA", "seed": 1}]}
    script = [Answer(body={"status": "IN_QUEUE"}), Answer(body={"status": "COMPLETED", "output": made})]
    with Scripted(*script) as server, Client(server.url, "media", "k") as client:
        assert follow(client, "j", tmp_path) == [str(tmp_path / "j-0.png"), str(tmp_path / "j.json")]
    assert {asked.method for asked in server.asked} == {"GET"}
    assert (tmp_path / "j-0.png").read_bytes() == b"\0\0\0"


def test_a_text_submitted_before_is_told_and_saved(tmp_path: Path) -> None:
    ended = Answer(body={"status": "COMPLETED", "output": ["a", "b", {"finish_reason": "stop"}]})
    with Scripted(ended) as server, Client(server.url, "text-generation", "k") as client:
        assert follow(client, "j", tmp_path) == ["ab"]
    assert json.loads((tmp_path / "j.json").read_text()) == {"text": "ab", "finish_reason": "stop"}


def test_a_worker_that_does_not_stream_is_printed_in_the_end(tmp_path: Path) -> None:
    ended = {"id": "j", "status": "COMPLETED", "output": {"text": "ab", "finish_reason": "stop"}}
    script = [Answer(body={"id": "j"}), Answer(body={"status": "COMPLETED", "stream": [], "next": 1})]
    written: list[str] = []
    with Scripted(*script, Answer(body=ended)) as server, Client(server.url, "text-generation", "k") as client:
        assert run_text(client, {"prompt": "p"}, tmp_path, written.append) == ended["output"]
    assert "".join(written) == "ab\n"
    assert json.loads(server.asked[0].body)["input"] == {"prompt": "p", "details": True}
    assert json.loads((tmp_path / "j.json").read_text()) == ended["output"]


def test_a_text_that_is_not_the_receipts_is_not_taken_for_it(tmp_path: Path) -> None:
    details = {"receipt": {"outputs": [{"sha256": "0" * 64}]}}
    pieces = [{"output": "ab", "n": 0}, {"output": details, "n": 1}]
    script = [Answer(body={"id": "j"}), Answer(body={"status": "COMPLETED", "stream": pieces, "next": 2})]
    with (
        Scripted(*script) as server,
        Client(server.url, "text-generation", "k") as client,
        pytest.raises(DeliveryFailed, match="receipt"),
    ):
        run_text(client, {"prompt": "p"}, tmp_path, lambda _: None)
    assert list(tmp_path.iterdir()) == []
