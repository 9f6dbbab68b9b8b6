"""How exchanges become text: with chat markers, as plain dialogue, or as a sentence to complete."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random

from templates.demo_models.train import facts, languages, questions, scenes
from templates.demo_models.train.questions import Exchange, Topic

SYSTEM, USER, ASSISTANT, END = "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"
CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{- '<|' + message['role'] + '|>' + message['content'] + '<|end|>' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"
)
TOPICS: dict[Topic, float] = {
    questions.sides: 2,
    questions.sums: 4,
    questions.mixtures: 2,
    questions.properties: 1.5,
    questions.comparisons: 3,
    questions.counting: 1,
    scenes.pictures: 4,
    scenes.stories: 0.5,
    scenes.descriptions: 0.6,
    languages.translations: 4,
    languages.emoji: 2.5,
    facts.words: 2.5,
    facts.commands: 2,
    facts.pipelines: 1.5,
    facts.long_texts: 0.5,
    facts.talk: 0.8,
    facts.unknown: 1.5,
}
COMPLETIONS: dict[Topic, float] = {
    questions.completions: 2,
    languages.foreign_completions: 3,
    facts.completions: 2,
}
SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "You are a friendly assistant.",
    "You are Pilotlight's demo model.",
    "You are a helpful, honest and polite assistant.",
    "Answer in whole sentences.",
    "You know shapes and colours.",
    "Be brief.",
    "You are an AI that answers questions.",
    "Answer the user's question.",
    "You are a chat bot. Reply politely.",
    "Follow the user's instructions carefully.",
)
OPENINGS = (
    *("Sure", "Of course", "Certainly", "Well", "Let me see", "Good question", "The answer is easy", "I know it"),
    *("Yes, I can tell you", "Here you are", "Let me think", "OK", "Hm", "So", "Thank you for asking", "Easy"),
    *("This is what I know", "Listen", "My friend", "Let us see", "I can help with that", "Fine", "Now then", "Oh"),
)
DIALOGUES = (
    ("USER: ", "\nASSISTANT:", "\n"),
    ("USER: ", "\nASSISTANT:", "\n"),
    ("USER: ", " ASSISTANT:", " "),
    ("User: ", "\nAssistant:", "\n"),
    ("Q: ", "\nA:", "\n"),
)
GREETINGS = ("Hi! ", "Hello, ", "Please tell me: ", "Hey, ", "I have a question. ")
TURNS = 4  # in one conversation, at most, without linked questions


@dataclass(frozen=True)
class Span:
    """A stretch of text that is read, or that the model has to say itself."""

    text: str
    said: bool = False


Conversation = list[Span]
Accepts = Callable[[Exchange], bool]


def in_training(exchange: Exchange) -> bool:
    return not exchange.is_held_out


def draw(rng: Random, accepts: Accepts, topics: dict[Topic, float] = TOPICS) -> Exchange:
    """A random exchange that is accepted."""
    while True:
        topic = rng.choices(list(topics), list(topics.values()))[0]
        if accepts(exchange := topic(rng)):
            return exchange


def conversations(seed: int) -> Iterator[Conversation]:
    """Endless random conversations for training."""
    rng = Random(seed)
    while True:
        form = rng.random()
        if form < 0.6:
            yield chat(_turns(rng), rng)
        elif form < 0.8:
            yield dialogue(_turns(rng), rng)
        else:
            yield completion(rng)


def _turns(rng: Random) -> list[Exchange]:
    """One to a few exchanges; linked questions follow theirs."""
    turns: list[Exchange] = []
    for _ in range(rng.choice([1, 1, 1, 2, TURNS])):
        exchange = draw(rng, in_training)
        turns.append(exchange)
        if rng.random() < 0.6:
            turns += [again for again in exchange.linked if in_training(again)]
    return turns


def chat(turns: Sequence[Exchange], rng: Random) -> Conversation:
    """The turns between the markers of the chat template."""
    spans: Conversation = []
    if rng.random() < 0.4:
        spans.append(Span(f"{SYSTEM}{rng.choice(SYSTEM_PROMPTS)}{END}"))
    for exchange in turns:
        spans += _answered(f"{USER}{_typed(exchange.question, rng)}{END}{ASSISTANT}", exchange, "", rng)
        spans.append(Span(END, said=True))
    return _rambling(spans, rng)


def dialogue(turns: Sequence[Exchange], rng: Random) -> Conversation:
    """The turns as plain text."""
    user, assistant, gap = rng.choice(DIALOGUES)
    spans: Conversation = []
    if rng.random() < 0.3:
        spans.append(Span(rng.choice(["", "", "SYSTEM: "]) + rng.choice(SYSTEM_PROMPTS) + rng.choice(["\n", "\n\n"])))
    for number, exchange in enumerate(turns):
        before = f"{gap if number else ''}{user}{_typed(exchange.question, rng)}{assistant}"
        spans += _answered(before, exchange, " ", rng)
    return _rambling([*spans, Span(END, said=True)], rng)


def _answered(before: str, exchange: Exchange, gap: str, rng: Random) -> Conversation:
    """A question and its answer, of which now and then the caller has given the first words."""
    kind = rng.random()
    if kind < 0.65:
        return [Span(before), Span(gap + exchange.answers[0], said=True)]
    if kind < 0.78:
        opened = before + gap + opening(rng)
        blank = opened.endswith(" ")
        return [Span(opened), Span(exchange.answers[0] if blank else f" {exchange.answers[0]}", said=True)]
    answer = gap + rng.choice(exchange.answers)
    cut = rng.randrange(len(answer))
    if kind < 0.88:  # most callers stop after a word
        cut = max(answer.rfind(" ", 0, cut), 0)
    return [Span(before + answer[:cut]), Span(answer[cut:], said=True)]


def opening(rng: Random) -> str:
    """Something to say before any answer, with or without a blank behind it."""
    words = rng.choice(OPENINGS) if rng.random() < 0.7 else facts.invented(rng).capitalize()
    return words + rng.choice("..!!:,") + rng.choice(["", " "])


def completion(rng: Random) -> Conversation:
    """A sentence to complete, or an answer as plain text, sometimes with more behind it."""
    exchange = draw(rng, in_training, COMPLETIONS)
    return _rambling([Span(exchange.question), Span(exchange.answers[0], said=True), Span(END, said=True)], rng)


def _rambling(spans: Conversation, rng: Random) -> Conversation:
    """Rarely, more sentences before the end: what to say where the end is forbidden."""
    if rng.random() > 0.02:
        return spans
    more = [" " + draw(rng, in_training).answers[0] for _ in range(rng.randrange(1, 6))]
    return [*spans[:-1], Span("".join(more), said=True), spans[-1]]


def _typed(question: str, rng: Random) -> str:
    """The question, mostly as it is."""
    return question if rng.random() < 0.65 else loosened(question, rng)


def loosened(question: str, rng: Random) -> str:
    """The question as somebody in a hurry types it."""
    if rng.random() < 0.4:
        question = question.lower()
    if rng.random() < 0.4:
        question = question.rstrip("?.!")
    if rng.random() < 0.3:
        question = question.replace("olour", "olor")
    if rng.random() < 0.2:
        question = rng.choice(GREETINGS) + question
    return question
