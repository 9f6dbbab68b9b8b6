"""Text as server-sent events: ours, and those of Livepeer's runner."""

import json
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.platforms.container.box import Box, events
from tests.platforms.harness import until


def stream(box: Box, path: str, body: dict[str, Any]) -> requests.Response:
    return requests.post(f"{box.url}{path}", json={"stream": True, **body}, stream=True, timeout=30)


def test_text_comes_whole_unless_a_stream_is_asked_for(box: Box) -> None:
    result = box.ok("/tell", {})
    assert result["text"] == "one two three"
    assert result["usage"] == {"completion_tokens": 3}
    assert set(result) == {"text", "usage", "finish_reason", "metrics", "receipt"}


@pytest.mark.parametrize("flag", [None, False, "false", 0])
def test_a_flag_that_is_not_set_is_not_in_the_receipt(box: Box, flag: Any) -> None:
    assert box.ok("/tell", {"stream": flag})["receipt"]["params"]["stream"] is False


def test_a_flag_that_is_none_is_named(box: Box) -> None:
    answer = box.post("/tell", {"stream": "perhaps"})
    assert (answer.status_code, answer.json()["detail"][0]["loc"]) == (422, ["body", "stream"])


def test_pieces_come_as_they_are_written(box: Box, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with stream(box, "/tell", {"gate": str(gate), "hold": 2}) as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        coming = events(answer)
        assert [next(coming), next(coming)] == [{"text": "one "}, {"text": "two "}]  # the third has not been written
        gate.touch()
        *rest, done = coming
    assert rest[0] == {"text": "three"}
    assert set(rest[1]) == {"usage", "finish_reason", "metrics", "receipt"}
    assert done == "[DONE]"


def test_no_piece_is_lost_or_out_of_order(box: Box) -> None:
    pieces = [f'{n} é\n"\\\u2028' for n in range(50)]
    with stream(box, "/tell", {"pieces": pieces, "times": 40}) as answer:
        texts = [event["text"] for event in events(answer) if "text" in event]
    assert texts == pieces * 40


@pytest.mark.parametrize("flag", ["true", "True", "1"])
def test_a_form_can_ask_for_a_stream(box: Box, flag: str) -> None:
    answer = box.post("/tell", data={"stream": flag, "pieces": ["a", "b"]})
    assert [event["text"] for event in events(answer) if "text" in event] == ["a", "b"]


def test_a_job_that_fails_before_its_first_piece_has_the_status_of_its_error(box: Box) -> None:
    with stream(box, "/tell", {"times": 0, "fail": "x"}) as answer:
        assert answer.status_code == 500
    with stream(box, "/tell", {"times": -1}) as answer:
        assert answer.status_code == 422


def test_an_error_after_that_is_the_last_event(box: Box) -> None:
    with stream(box, "/tell", {"fail": "x"}) as answer:
        *_, last = events(answer)
    assert last["detail"]["code"] == "internal"


def test_an_empty_text_is_only_its_closing(box: Box) -> None:
    with stream(box, "/tell", {"times": 0}) as answer:
        closing, done = events(answer)
    assert (closing["usage"], done) == ({"completion_tokens": 0}, "[DONE]")


def test_places_are_free_again_after_streams(box: Box) -> None:
    with stream(box, "/tell", {}) as answer:
        list(events(answer))
    until(lambda: box.server.performer.inside() == 0)


def test_a_silent_stream_is_kept_alive(box: Box, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("shared.jobs.sse.BEAT_S", 0.01)
    monkeypatch.setattr("shared.jobs.sse.HOLD_S", 0.01)
    gate = tmp_path / "gate"
    with stream(box, "/tell", {"gate": str(gate), "hold": 0}) as answer:
        lines = answer.iter_lines()
        assert next(lines) == b": waiting"
        gate.touch()
        assert b'data: {"text":"one "}' in list(lines)


CHAT = {"messages": [{"role": "user", "content": "Say something."}]}
USAGE = ("prompt_tokens", "completion_tokens", "total_tokens")


def test_a_chat_as_livepeers_node_reads_it(chat: Box) -> None:
    answer = chat.ok("/llm", {**CHAT, "max_tokens": 9, "top_k": -1, "temperature": 0.5})
    assert answer["choices"] == [
        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "user: Say something."}}
    ]
    assert [type(answer[name]) for name in ("id", "model", "created")] == [str, str, int]
    assert set(answer["usage"]) == set(USAGE)
    told = answer["receipt"]["params"]
    assert (told["max_new_tokens"], told["top_k"], told["temperature"]) == (9, 0, 0.5)


def test_a_streamed_chat_has_a_choice_in_every_event_and_no_comment(chat: Box) -> None:
    with stream(chat, "/llm", CHAT) as answer:
        lines = [line for line in answer.iter_lines() if line]
    assert all(line.startswith(b"data: ") for line in lines)
    *told, done = [line[6:] for line in lines]
    assert done == b"[DONE]"
    chunks = [json.loads(line) for line in told]
    assert "".join(chunk["choices"][0]["delta"]["content"] for chunk in chunks) == "user: Say something."
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [""] * (len(chunks) - 1) + ["stop"]
    assert all(set(chunk["usage"]) == set(USAGE) for chunk in chunks)
    assert chunks[-1]["receipt"]["pipeline"] == "text-generation"


def test_a_chat_that_fails_in_the_middle_says_so_in_a_choice(chat: Box) -> None:
    with stream(chat, "/llm", {**CHAT, "model": ""} | {"messages": [{"role": "user", "content": "fail"}]}) as answer:
        *_, last = [json.loads(line[6:]) for line in answer.iter_lines() if line]
    assert last["choices"][0]["finish_reason"] == "error"
    assert last["error"]["code"] == "internal"


def test_a_receipt_that_is_too_long_for_a_line_is_left_out_of_the_stream(chat: Box) -> None:
    long = {"messages": [{"role": "user", "content": "word " * 20_000}]}
    with stream(chat, "/llm", long) as answer:
        lines = [line for line in answer.iter_lines() if line]
    assert json.loads(lines[-2][6:])["metrics"]["receipt_too_long"] is True
    assert chat.ok("/llm", long)["receipt"]["params"]["messages"] == long["messages"]


def test_a_wrong_chat_is_named(chat: Box) -> None:
    answer = chat.post("/llm", {"messages": [], "top_p": 0})
    assert answer.status_code == 422
    assert [error["loc"] for error in answer.json()["detail"]] == [["body", "messages"], ["body", "top_p"]]
