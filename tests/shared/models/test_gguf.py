"""Text models by llama.cpp: what a call does, and what happens to one that cannot be run."""

import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shared.errors import Cancelled, InvalidInput
from shared.models.gguf import CONTEXT, TextModel
from tests.shared.models.talk import QUESTIONS, SQUARE, WAIT_S, heard, open_model, pieces
from tests.shared.models.tiny_gguf import write


def prompt_of(model: TextModel, asked: list[dict[str, Any]]) -> int:
    """How many tokens a chat has, by the model's own count."""
    usage: dict[str, int] = {}
    body = {"messages": asked, "max_tokens": 1, "stream_options": {"include_usage": True}}
    model.chat(body, lambda chunk: usage.update(chunk.get("usage") or {}))
    return usage["prompt_tokens"]


def test_a_job_has_the_context_asked_for_as_far_as_the_model_was_trained(tmp_path: Path) -> None:
    short = write(tmp_path / "short.gguf", context=512)
    assert open_model(short, context=256).context == 256
    assert open_model(short, context=4096).context == 512
    assert open_model(short).context == min(CONTEXT, 512)


def test_each_slot_has_the_whole_context(endless_text: TextModel) -> None:
    assert endless_text.slots == 2
    assert len(pieces(endless_text, "x", max_tokens=1000)) > 200


def test_a_prompt_that_is_too_long_is_refused_with_both_numbers(endless_text: TextModel) -> None:
    with pytest.raises(InvalidInput, match=r"has \d{3} tokens, and a job here may have 256") as caught:
        pieces(endless_text, "x" * 500)
    assert caught.value.detail["n_ctx"] == 256
    assert caught.value.detail["n_prompt_tokens"] > 500
    assert caught.value.detail["openai_code"] == "context_length_exceeded"
    with pytest.raises(InvalidInput, match="a job here may have 256"):
        heard(endless_text.complete, {"prompt": "x" * 500})


def test_a_model_without_a_template_is_spoken_to_in_plain_turns(tmp_path: Path) -> None:
    model = open_model(write(tmp_path / "plain.gguf", template=None, says="ok\nUSER:bc"))
    said = [
        {"role": "system", "content": "Be"},
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    ]
    as_text = "Be\nUSER: a\nASSISTANT: b\nUSER: c\nASSISTANT:"
    assert prompt_of(model, said) == 1 + len(as_text)
    begun = [*said, {"role": "assistant", "content": "x"}]  # and the turn that it would go on with is none of its
    assert prompt_of(model, begun) == 1 + len(f"{as_text}x")
    assert "".join(pieces(model, begun)) == "ok"
    assert "".join(heard(model.complete, {"prompt": "x", "temperature": 0})) == "ok"


def test_a_begun_answer_is_continued(demo_text: TextModel) -> None:
    begun = [{"role": "user", "content": SQUARE}, {"role": "assistant", "content": "A square has"}]
    assert "".join(pieces(demo_text, begun)).startswith(" four")


@pytest.mark.parametrize("failure", [ValueError("ours"), Cancelled("asked"), KeyboardInterrupt(), TypeError("x")])
def test_what_the_caller_raises_ends_the_answer_and_is_raised(
    endless_text: TextModel, failure: BaseException
) -> None:
    calls: list[int] = []

    def fail(chunk: dict[str, Any]) -> None:
        calls.append(1)
        if len(calls) == 10:
            raise failure

    with pytest.raises(type(failure)) as caught:
        endless_text.chat({"messages": [{"role": "user", "content": "x"}], "temperature": 0}, fail)
    assert caught.value is failure
    assert len(calls) == 10
    assert pieces(endless_text, "x", max_tokens=3)


@pytest.mark.parametrize(
    ("stop", "expected"),
    [
        ("STOP", "abc-"),
        (["STOP"], "abc-"),
        (["Q", "ST"], "abc-"),
        (["STOPPED"], "abc-STOP+def"),
        (["f"], "abc-STOP+de"),
        (["a"], ""),
        ([], "abc-STOP+def"),
        (None, "abc-STOP+def"),
    ],
)
def test_stop_strings_are_not_in_the_text_in_whole_or_in_part(tmp_path: Path, stop: Any, expected: str) -> None:
    """The model writes a letter a token: nothing of a stop string may leave before it is known to be none."""
    model = open_model(write(tmp_path / "says.gguf", says="abc-STOP+def"))
    assert "".join(pieces(model, "?", stop=stop)) == expected
    assert "".join(heard(model.complete, {"prompt": "?", "temperature": 0, "stop": stop})) == expected


@pytest.mark.parametrize("text", ["é!", "青い", "😀", "a😀é→z", "🇩🇪"[:1] + "x"])
def test_characters_of_several_bytes_are_not_cut(tmp_path: Path, text: str) -> None:
    """The model writes a byte a token."""
    model = open_model(write(tmp_path / "says.gguf", says=text))
    assert pieces(model, "?") == list(text)
    assert heard(model.complete, {"prompt": "?", "temperature": 0}) == list(text)


def test_the_demo_model_writes_whole_characters_of_other_scripts(demo_text: TextModel) -> None:
    found = pieces(demo_text, "How do you say blue in Japanese?")
    assert "\ufffd" not in "".join(found)
    assert not "".join(found).isascii()


def test_two_answers_at_once_are_not_mixed(demo_text: TextModel) -> None:
    alone = {asked: pieces(demo_text, asked) for asked in QUESTIONS}
    got: list[tuple[str, list[str]]] = []

    def ask(seed: int) -> None:
        got.extend((asked, pieces(demo_text, asked)) for asked in random.Random(seed).choices(QUESTIONS, k=10))

    run_together(lambda: ask(1), lambda: ask(2))
    assert len(got) == 20
    assert all(found == alone[asked] for asked, found in got)


def run_together(*calls: Callable[[], None]) -> None:
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    assert not [thread for thread in threads if thread.is_alive()]


def test_both_of_two_answers_go_on_and_one_that_is_stopped_leaves_the_other(endless_text: TextModel) -> None:
    expected = pieces(endless_text, "other", max_tokens=150)
    met, found = threading.Barrier(2, timeout=WAIT_S), []
    counts = {"stopped": 0}

    def stop_early(chunk: dict[str, Any]) -> None:
        counts["stopped"] += 1
        if counts["stopped"] == 20:
            met.wait()  # the other is in the middle of its text
            raise Cancelled("asked")

    def stopped() -> None:
        with pytest.raises(Cancelled):
            endless_text.chat({"messages": [{"role": "user", "content": "one"}], "temperature": 0}, stop_early)

    def other() -> None:
        def take(chunk: dict[str, Any]) -> None:
            found.append(chunk["choices"][0]["delta"].get("content") or "" if chunk.get("choices") else "")
            if len(found) == 20:
                met.wait()

        body = {"messages": [{"role": "user", "content": "other"}], "temperature": 0, "max_tokens": 150}
        endless_text.chat(body, take)

    run_together(stopped, other)
    assert counts["stopped"] == 20
    assert "".join(found) == "".join(expected)
