"""Conversations as jobs, in the three formats."""

from ui import chat
from ui.chat import Settings
from ui.failures import Failure

TURNS = [
    {"role": "user", "content": "Hello"},
    {"role": "assistant", "content": "Hi."},
    {"role": "user", "content": "Why is the sky blue?"},
]


def test_the_models_own_template_is_left_to_the_endpoint() -> None:
    given = chat.job_input("text-generation", TURNS, "Because", chat.TEMPLATE, Settings(system_prompt="Be brief."))
    assert given["messages"] == TURNS
    assert (given["nudge"], given["system_prompt"]) == ("Because", "Be brief.")
    assert "prompt" not in given


def test_plain_is_one_text_that_ends_with_the_nudge_and_without_a_space() -> None:
    given = chat.job_input(
        "text-generation", TURNS, "", chat.PLAIN, Settings(system_prompt="Be brief.", stop=("</s>",))
    )
    assert given["prompt"] == "Be brief.\nUSER: Hello\nASSISTANT: Hi.\nUSER: Why is the sky blue?\nASSISTANT:"
    assert given["stop"] == ["</s>", "USER:"]
    assert chat.as_text(TURNS[:1], "Well", chat.PLAIN, "") == "USER: Hello\nASSISTANT: Well"


def test_roleplay_has_the_marks_of_roleplay_models() -> None:
    text = chat.as_text(TURNS, "", chat.ROLEPLAY, "A pirate.")
    assert text == "<|system|>A pirate.\n<|user|>Hello\n<|model|>Hi.\n<|user|>Why is the sky blue?\n<|model|>"


def test_sliders_and_configuration_go_along_with_0_as_without() -> None:
    given = Settings(top_p=0.0, repetition_penalty=0.0, more={"seed": -1, "last_n_tokens": 64}).as_input()
    assert given["top_p"] == given["repetition_penalty"] == 1.0
    assert (given["seed"], given["last_n_tokens"], given["max_new_tokens"]) == (-1, 64, 300)


def test_only_workers_without_messages_are_asked_again_plainly() -> None:
    assert chat.refuses_messages(Failure("internal", "KeyError: 'prompt'"))
    assert not chat.refuses_messages(Failure("queue_full", "wait"))
    assert not chat.refuses_messages(Failure("internal", "boom"))


def test_words_keep_every_character() -> None:
    text = " a  bc\n\nd "
    assert "".join(chat.words(text)) == text
    assert len(chat.words(text)) == 3
