"""What was said, as the chatbot, the browser and receipts have it."""

from typing import Any

import pytest

from ui import talks

TURNS = [{"role": "user", "content": "Hello"}]
OURS = {**talks.NOTHING_SAID, "job": "j-1", "turns": TURNS}


def test_a_conversation_that_the_browser_kept_is_taken_up_by_its_job() -> None:
    assert talks.kept(OURS, "j-1") == OURS
    assert talks.kept(OURS, "j-2") == talks.NOTHING_SAID


@pytest.mark.parametrize(
    "strange",
    [None, 7, [], "j-1", {}, {"job": "j-1"}, {**OURS, "turns": "many"}, {**OURS, "turns": [7]}, {**OURS, "nudge": 7}],
)
def test_what_is_no_conversation_is_as_if_nothing_was_said(strange: Any) -> None:
    assert talks.kept(strange, "j-1") == talks.NOTHING_SAID


@pytest.mark.parametrize(
    ("params", "turns"),
    [
        ({"messages": [{"role": "system", "content": "Be brief."}, *TURNS]}, TURNS),
        ({"prompt": "Hello"}, TURNS),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}], "prompt": None}, []),
        ("none", []),
    ],
)
def test_the_question_of_an_answer_is_in_its_receipt(params: Any, turns: list[Any]) -> None:
    assert talks.asked({"receipt": {"params": params}}) == (turns, "")


def test_the_chatbots_parts_are_one_text() -> None:
    shown: list[dict[str, Any]] = [
        {"role": "user", "content": [{"type": "text", "text": "Hel"}, "lo"]},
        {"role": "assistant", "content": ""},
    ]
    assert talks.of_chatbot(shown) == TURNS
