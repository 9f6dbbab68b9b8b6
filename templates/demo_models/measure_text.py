"""How often a text-generation checkpoint answers rightly, through llama.cpp, on what training never heard.

python -m templates.demo_models.measure_text --checkpoint templates/demo_models/text-generation
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from templates.demo_models.gguf_model import Message, Model
from templates.demo_models.report import make_parser, report
from templates.demo_models.train import facts
from templates.demo_models.train.conversations import (
    COMPLETIONS,
    TOPICS,
    draw,
    loosened,
    opening,
)
from templates.demo_models.train.questions import Exchange, Topic

CHECKPOINT = Path(__file__).parent / "text-generation"
BAR = 0.95
FAMILIAR_SYSTEM_PROMPT = "You are a helpful assistant."
NEW_SYSTEM_PROMPTS = ("You are a careful teacher.", "Reply in English.", "Today is a good day. Help the user.")
HARDER = ("nudge up to any letter",)  # measured, but held to no bar
NEW_OPENINGS = ("Gladly!", "With pleasure. ", "That is simple: ", "Right.", "As you wish, ")


@dataclass(frozen=True)
class Asked:
    """An exchange, and the first words of its answer where the caller gives them."""

    exchange: Exchange
    nudge: str = ""
    opening: str = ""
    before: tuple[Message, ...] = ()

    def is_right(self, text: str) -> bool:
        """Whether the whole answer, first words included, is one of the right ones; an opening is no part of it."""
        return (self.nudge + text).strip() in [answer.strip() for answer in self.exchange.answers]


def held_out(count: int, seed: int, topics: dict[Topic, float] = TOPICS) -> list[Exchange]:
    """Random exchanges that training never heard; a question that comes twice counts once."""
    rng = Random(seed)
    drawn = (draw(rng, lambda exchange: exchange.is_held_out, topics) for _ in range(count))
    return list({exchange.question: exchange for exchange in drawn}.values())


def messages(asked: Asked, system: str = "") -> list[Message]:
    """The chat that asks it."""
    first = [{"role": "system", "content": system}] if system else []
    given = asked.opening + asked.nudge
    last = [{"role": "assistant", "content": given}] if given else []
    return [*first, *asked.before, {"role": "user", "content": asked.exchange.question}, *last]


def nudged(exchange: Exchange, share: float, rng: Random) -> Asked:
    """The question with this share of one of its answers' words, at least one word and never all."""
    words = rng.choice(exchange.answers).split(" ")
    kept = min(max(1, int(share * len(words))), len(words) - 1)
    return Asked(exchange, " ".join(words[:kept])) if kept else Asked(exchange)


def cut_anywhere(exchange: Exchange, rng: Random) -> Asked:
    """The question with the answer up to any letter."""
    answer = rng.choice(exchange.answers)
    return Asked(exchange, answer[: rng.randrange(1, len(answer))].rstrip())


def followed(exchange: Exchange, earlier: Sequence[Exchange]) -> Asked:
    """The question after other questions and their answers."""
    before: list[Message] = []
    for one in earlier:
        before += [
            {"role": "user", "content": one.question},
            {"role": "assistant", "content": one.answers[0]},
        ]
    return Asked(exchange, before=tuple(before))


def linked(count: int, seed: int) -> list[Asked]:
    """Held-out questions that make sense only after the one before."""
    rng = Random(seed)
    found: list[Asked] = []
    while len(found) < count:
        exchange = draw(rng, lambda exchange: exchange.is_held_out or bool(exchange.linked))
        found += [followed(again, [exchange]) for again in exchange.linked if again.is_held_out]
    return found[:count]


def by_heart() -> list[Exchange]:
    """The questions whose fixed answers training has heard in just these words."""
    rng, known = Random(0), {}
    for topic in (facts.pipelines, facts.long_texts, facts.talk):
        for _ in range(400):
            exchange = topic(rng)
            known[exchange.question] = exchange
    return list(known.values())


def trials(count: int) -> Iterator[tuple[str, list[Asked], Callable[[Model, Asked], str]]]:
    """Each figure's name, questions, and way to ask them."""
    rng, exchanges = Random(1), held_out(count, seed=2)
    plain = [Asked(exchange) for exchange in exchanges]
    yield "held-out questions", plain, in_chat()
    loose = [Asked(Exchange(one.about, loosened(one.question, rng), one.answers)) for one in held_out(count, seed=3)]
    yield "loosely typed", loose, in_chat()
    yield "with a familiar system prompt", plain, in_chat(FAMILIAR_SYSTEM_PROMPT)
    for number, system in enumerate(NEW_SYSTEM_PROMPTS):
        yield f"with new system prompt {number + 1}", plain[number :: len(NEW_SYSTEM_PROMPTS)], in_chat(system)
    yield "nudge of one word", [nudged(one, 0, rng) for one in exchanges], in_chat()
    yield "nudge of a third", [nudged(one, 1 / 3, rng) for one in exchanges], in_chat()
    yield "nudge of two thirds", [nudged(one, 2 / 3, rng) for one in exchanges], in_chat()
    yield "nudge up to any letter", [cut_anywhere(one, rng) for one in exchanges], in_chat()
    yield "nudge that only opens", [Asked(one, opening=opening(rng)) for one in exchanges], in_chat()
    yield (
        "nudge that opens in new words",
        [Asked(one, opening=rng.choice(NEW_OPENINGS)) for one in exchanges],
        in_chat(),
    )
    earlier = held_out(count, seed=4)
    yield "after three other questions", [followed(one, rng.sample(earlier, 3)) for one in exchanges], in_chat()
    yield "questions that refer back", linked(count, seed=5), in_chat()
    yield "plain dialogue", plain, in_dialogue
    yield "sentences to complete", [Asked(one) for one in held_out(count, 6, COMPLETIONS)], in_completion
    yield "by heart", [Asked(one) for one in by_heart()], in_chat()


def in_chat(system: str = "") -> Callable[[Model, Asked], str]:
    return lambda model, asked: model.chat(messages(asked, system))


def in_dialogue(model: Model, asked: Asked) -> str:
    return model.complete(f"USER: {asked.exchange.question}\nASSISTANT:")


def in_completion(model: Model, asked: Asked) -> str:
    return model.complete(asked.exchange.question)


def share_right(rights: Sequence[bool]) -> float:
    return round(float(np.mean(rights)), 4)


def measure(checkpoint: Path, count: int, show: bool = False) -> dict[str, Any]:
    """All figures."""
    start = time.perf_counter()
    model = Model(checkpoint / "model.gguf")
    figures: dict[str, Any] = {"load_s": round(time.perf_counter() - start, 3), "trials": {}}
    figures["tokens_per_s"] = round(float(np.median([model.speed(512) for _ in range(5)])))
    for name, asked, ask in trials(count):
        answers = [ask(model, one) for one in asked]
        rights = [one.is_right(answer) for one, answer in zip(asked, answers, strict=True)]
        figures["trials"][name] = {"questions": len(asked), "right": share_right(rights)}
        if name == "held-out questions":
            figures["by topic"] = by_topic(asked, rights)
        if show:
            show_wrong(name, asked, answers)
    return figures


def by_topic(asked: Sequence[Asked], rights: Sequence[bool]) -> dict[str, float]:
    topics = sorted({one.exchange.topic for one in asked})
    pairs = list(zip(asked, rights, strict=True))
    return {topic: share_right([right for one, right in pairs if one.exchange.topic == topic]) for topic in topics}


def show_wrong(name: str, trial: Sequence[Asked], answers: Sequence[str]) -> None:
    """Prints the wrong answers beside the right ones."""
    for one, answer in zip(trial, answers, strict=True):
        if not one.is_right(answer):
            asked = f"{one.exchange.question!r} {one.opening + one.nudge!r}"
            print(f"{name}: {asked} {answer!r}, not {one.exchange.answers[0]!r}")


def reaches_bar(figures: dict[str, Any]) -> bool:
    """Whether every share but those of `HARDER` is at or over the bar."""
    shares = {name: figure["right"] for name, figure in figures["trials"].items()}
    return all(share >= BAR for name, share in shares.items() if name not in HARDER)


def main() -> int:
    """Prints the figures and writes them beside the weights; 1 where they stay under the bar."""
    parser = make_parser(__doc__, CHECKPOINT)
    parser.add_argument("--questions", type=int, default=500)
    parser.add_argument("--show", action="store_true", help="print the wrong answers")
    options = parser.parse_args()
    figures = measure(options.checkpoint, options.questions, options.show)
    return report(figures, options.checkpoint, f"{BAR:.0%}", passed=reaches_bar(figures))


if __name__ == "__main__":
    raise SystemExit(main())
