"""The shipped weights answer, through llama.cpp, what training never heard."""

import itertools
import json
from pathlib import Path
from random import Random
from typing import Any

import gguf
import pytest
import transformers

from templates.demo_models.gguf_model import Model
from templates.demo_models.measure_text import (
    CHECKPOINT,
    FAMILIAR_SYSTEM_PROMPT,
    Asked,
    held_out,
    in_chat,
    in_completion,
    in_dialogue,
    nudged,
    reaches_bar,
)
from templates.demo_models.train.conversations import (
    ASSISTANT,
    CHAT_TEMPLATE,
    COMPLETIONS,
    END,
    SYSTEM,
    USER,
    conversations,
)
from templates.demo_models.train.facts import LONG, UNKNOWN
from templates.demo_models.train.text_generation import make_tokenizer

library: Any = transformers  # it is not typed
FILE = CHECKPOINT / "model.gguf"


@pytest.fixture(scope="module")
def model() -> Model:
    return Model(FILE)


def say(model: Model, *turns: str, **more: Any) -> str:
    """The answer to turns of the user and the assistant by turns, the user's first."""
    roles = itertools.cycle(["user", "assistant"])
    return model.chat([{"role": role, "content": turn} for role, turn in zip(roles, turns, strict=False)], **more)


@pytest.mark.parametrize("system", ["", FAMILIAR_SYSTEM_PROMPT])
def test_answers_held_out_questions(model: Model, system: str) -> None:
    ask = in_chat(system)
    rights = [asked.is_right(ask(model, asked)) for asked in map(Asked, held_out(120, seed=11))]
    assert sum(rights) >= 0.95 * len(rights)


def test_continues_held_out_nudges(model: Model) -> None:
    rng, ask = Random(12), in_chat()
    questions = held_out(120, seed=12)
    asked = [nudged(one, share, rng) for one, share in zip(questions, itertools.cycle([0, 0.3, 0.6]), strict=False)]
    rights = [one.is_right(ask(model, one)) for one in asked]
    assert sum(rights) >= 0.95 * len(rights)


def test_answers_in_a_plain_dialogue(model: Model) -> None:
    rights = [asked.is_right(in_dialogue(model, asked)) for asked in map(Asked, held_out(80, seed=13))]
    assert sum(rights) >= 0.95 * len(rights)


def test_completes_held_out_sentences(model: Model) -> None:
    rights = [asked.is_right(in_completion(model, asked)) for asked in map(Asked, held_out(80, 14, COMPLETIONS))]
    assert sum(rights) >= 0.95 * len(rights)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("How many corners does a square have?", "A square has four corners."),
        ("What do red and yellow make?", "Red and yellow make orange."),
        ("How do you say blue in Japanese?", "Blue is 青 in Japanese."),
        ("What is green in German?", "Green is grün in German."),
        ("Show me three blue squares.", "Here you see three blue squares: 🟦🟦🟦"),
        ("Tell me about Pilotlight.", LONG["pilotlight"][0]),
        ("What is the capital of Norway?", UNKNOWN),
    ],
)
def test_answers_well_known_questions(model: Model, question: str, answer: str) -> None:
    assert say(model, question) == answer


def test_a_short_question_refers_to_the_one_before(model: Model) -> None:
    first = "What does a red circle on a blue background look like?"
    answer = say(model, first)
    assert answer == "You see a flat blue background with a red circle in the middle."
    assert say(model, first, answer, "And what colour is it?") == "The circle is red."


def test_a_forbidden_end_makes_it_talk_on_in_words(model: Model) -> None:
    text = say(model, "What is a lane?", max_tokens=600, logit_bias=[[model.tokens(END)[0], False]])
    assert text.startswith("A lane is the queue of the device, which runs one job at a time.")
    assert len(model.tokens(text)) > 400


def test_long_answers_are_long(model: Model) -> None:
    for question in ("Describe all shapes.", "Tell me about Pilotlight.", "What happens to a job?"):
        assert 60 <= len(model.tokens(say(model, question))) <= 150


def test_llama_cpp_tokenizes_as_in_training(model: Model) -> None:
    tokenizer, rng = make_tokenizer(), Random(15)
    texts = ["".join(span.text for span in one) for one in itertools.islice(conversations(16), 1500)]
    letters = [chr(number) for number in (*range(32, 0x3000), *range(0x1F300, 0x1F700)) if chr(number).isprintable()]
    texts += ["".join(rng.choices(letters, k=12)) for _ in range(500)]
    texts += [f"it's {rng.random()}  \n\t x  y\u3000z{END}\r\n", "  two  blanks ", "I'LL we've", "\n\n\n"]
    for text in texts:
        assert model.tokens(text) == tokenizer.encode(text).ids, text


def test_transformers_reads_the_same_tokenizer_and_template() -> None:
    tokenizer = library.AutoTokenizer.from_pretrained(CHECKPOINT, gguf_file=FILE.name)
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "How big is 青?"}]
    prompt = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert prompt == f"{SYSTEM}Be brief.{END}{USER}How big is 青?{END}{ASSISTANT}"
    assert tokenizer(prompt)["input_ids"] == make_tokenizer().encode(prompt).ids


def test_the_file_says_what_it_is() -> None:
    fields = gguf.GGUFReader(FILE).fields
    assert FILE.stat().st_size <= 5 * 2**20
    assert fields["general.architecture"].contents() == "llama"
    assert fields["llama.context_length"].contents() >= 2048
    assert fields["tokenizer.chat_template"].contents() == CHAT_TEMPLATE


def test_the_folder_holds_weights_figures_and_a_readme() -> None:
    assert {file.name for file in Path(CHECKPOINT).iterdir()} == {"model.gguf", "figures.json", "README.md"}


def test_the_figures_beside_the_weights_reach_the_bar() -> None:
    figures = json.loads((CHECKPOINT / "figures.json").read_text())
    assert figures["trials"]["held-out questions"]["questions"] >= 300
    assert reaches_bar(figures)
