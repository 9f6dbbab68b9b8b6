"""The grammar knows the right answers, and keeps what is held out away from training."""

import itertools
import re
from random import Random

import pytest

from templates.demo_models.train import questions, scenes
from templates.demo_models.train.conversations import (
    ASSISTANT,
    COMPLETIONS,
    END,
    SYSTEM,
    TOPICS,
    USER,
    Conversation,
    conversations,
    draw,
    in_training,
)
from templates.demo_models.train.questions import MIXTURES, NUMBERS, Exchange, Thing, Topic


def drawn(topic: Topic, count: int = 300) -> list[Exchange]:
    rng = Random(1)
    return [topic(rng) for _ in range(count)]


def text(conversation: Conversation) -> str:
    return "".join(span.text for span in conversation)


@pytest.mark.parametrize("topic", [*TOPICS, *COMPLETIONS], ids=lambda topic: topic.__name__)
def test_every_exchange_has_a_question_and_different_answers(topic: Topic) -> None:
    for exchange in drawn(topic):
        assert exchange.question
        assert all(exchange.answers)
        assert len(set(exchange.answers)) == len(exchange.answers) >= 1


SUM = re.compile(r".* (?:has|have) (\w+) \w+ and .* (\w+), so together they have (\w+) \w+\.")
COMPARISON = re.compile(r"An? (.*) has (\w+) \w+ and an? (.*) (\w+), so (.*)\.")


def number(word: str) -> int:
    return NUMBERS.index(word.replace("none", "no"))


def test_sums_add_up() -> None:
    for exchange in drawn(questions.sums):
        found = SUM.fullmatch(exchange.answers[0])
        assert found, exchange
        first, second, together = map(number, found.groups())
        assert first + second == together, exchange


def test_comparisons_name_the_shape_with_more() -> None:
    for exchange in drawn(questions.comparisons):
        found = COMPARISON.fullmatch(exchange.answers[0])
        assert found, exchange
        one, sides, two, other_sides, result = found.groups()
        if number(sides) == number(other_sides):
            assert result == "they have the same number"
        else:
            winner = one if number(sides) > number(other_sides) else two
            assert result == f"the {winner.split()[-1]} has more"


def test_paints_mix_in_either_order() -> None:
    for (one, two), mixed in MIXTURES.items():
        assert questions.mixture(one, two) == questions.mixture(two, one) == mixed
    assert questions.mixture("green", "white") == "light green"
    assert questions.mixture("pink", "grey") is None


def test_words_have_the_right_article_and_plural() -> None:
    assert str(Thing("square", "orange")) == "an orange square"
    assert str(Thing("cross", "red", count=3)) == "three red crosses"
    assert str(Thing("hexagon", size="small")) == "a small hexagon"


def test_linked_questions_are_about_the_same_picture() -> None:
    for exchange in drawn(scenes.pictures):
        assert {again.about for again in exchange.linked} <= {exchange.about}


def test_one_in_ten_is_held_out_and_training_hears_none_of_it() -> None:
    exchanges = [exchange for topic in TOPICS for exchange in drawn(topic, 400) if ":" in exchange.about]
    share = sum(exchange.is_held_out for exchange in exchanges) / len(exchanges)
    assert 0.05 < share < 0.15
    rng = Random(2)
    assert not any(draw(rng, in_training).is_held_out for _ in range(500))


def test_nobody_hears_a_held_out_question_in_other_words() -> None:
    """The same shapes and numbers of a sum are held out in each wording and colour."""
    sums = drawn(questions.sums, 2000)
    known = {exchange.about for exchange in sums if not exchange.is_held_out}
    assert not known & {exchange.about for exchange in sums if exchange.is_held_out}


def test_a_chat_ends_each_answer_and_the_model_says_the_end() -> None:
    chats = [one for one in itertools.islice(conversations(3), 400) if USER in text(one)]
    for conversation in chats:
        assert text(conversation).count(USER) == text(conversation).count(ASSISTANT)
        assert conversation[-1].text == END
        assert conversation[-1].said
        assert not any(
            marker in span.text for span in conversation if span.said for marker in (SYSTEM, USER, ASSISTANT)
        )


def test_conversations_repeat_themselves_by_seed() -> None:
    one, two, other = ([text(talk) for talk in itertools.islice(conversations(seed), 50)] for seed in (7, 7, 8))
    assert one == two != other
