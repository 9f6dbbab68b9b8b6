"""Questions about shapes and colours, each with the answers that are right.

A topic is a function of a random generator that returns one exchange. What an exchange is `about` decides whether
training hears it: the same colours, shapes and numbers in the same roles are held out in every wording.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from templates.demo_models.train import shapes

HELD_OUT = 10  # one in so many
SIDES = {"circle": 0, "triangle": 3, "square": 4, "pentagon": 5, "hexagon": 6, "cross": 12}
COLOURS = (*shapes.COLOURS, "pink", "grey")
NUMBERS = (
    *("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"),
)
MIXTURES = {
    ("red", "yellow"): "orange",
    ("red", "blue"): "purple",
    ("blue", "yellow"): "green",
    ("red", "white"): "pink",
    ("black", "white"): "grey",
    ("red", "green"): "brown",
    ("blue", "orange"): "brown",
    ("yellow", "purple"): "brown",
}


@dataclass(frozen=True)
class Exchange:
    """A question and its right answers, the plainest first; `linked` are questions that make sense right after it."""

    about: str
    question: str
    answers: tuple[str, ...]
    linked: "tuple[Exchange, ...]" = ()

    @property
    def topic(self) -> str:
        return self.about.split(":")[0]

    @property
    def is_held_out(self) -> bool:
        """Whether training leaves it out, by a hash; what is about a topic as a whole must be learnt by heart."""
        return ":" in self.about and zlib.crc32(self.about.encode()) % HELD_OUT == 0


Topic = Callable[[Random], Exchange]


@dataclass(frozen=True)
class Thing:
    """A shape, perhaps of a colour and a size."""

    shape: str
    colour: str = ""
    size: str = ""
    count: int = 1

    @property
    def words(self) -> str:
        return " ".join(filter(None, (self.size, self.colour, self.shape)))

    @property
    def sides(self) -> int:
        return self.count * SIDES[self.shape]

    def __str__(self) -> str:
        if self.count == 1:
            return a(self.words)
        plural = "crosses" if self.shape == "cross" else f"{self.shape}s"
        return f"{NUMBERS[self.count]} {self.words.removesuffix(self.shape)}{plural}"


def a(words: str) -> str:
    """The words behind their article."""
    return f"an {words}" if words[0] in "aeio" else f"a {words}"


def sentence(text: str) -> str:
    """The text with a capital letter."""
    return text[0].upper() + text[1:]


def number_or_none(thing: Thing) -> str:
    """How many sides a shape has, where the word "sides" does not follow."""
    return NUMBERS[thing.sides] if thing.sides else "none"


def some_thing(rng: Random) -> Thing:
    """A random shape; half of them have a colour, some a size."""
    colour = rng.choice(COLOURS) if rng.random() < 0.6 else ""
    return Thing(rng.choice(list(SIDES)), colour, rng.choice(["", "", "", "small", "large"]))


def sides(rng: Random, linked: bool = True) -> Exchange:
    """How many sides or corners one shape has."""
    thing, part = some_thing(rng), rng.choice(["sides", "corners"])
    forms = [
        f"How many {part} does {thing} have?",
        f"How many {part} are there in {thing}?",
        f"What is the number of {part} of {thing}?",
        f"Count the {part} of {thing}.",
        f"Tell me how many {part} {thing} has.",
    ]
    return _sides_asked(thing, part, rng.choice(forms), (_sides_again(rng, part),) if linked else ())


def _sides_asked(thing: Thing, part: str, question: str, linked: tuple[Exchange, ...] = ()) -> Exchange:
    number = NUMBERS[thing.sides]
    answers = (
        sentence(f"{thing} has {number} {part}."),
        f"There are {number} {part} in {thing}.",
        f"The number of {part} of {thing} is {number}.",
    )
    return Exchange(f"sides: {part} {thing}", question, answers, linked)


def _sides_again(rng: Random, part: str) -> Exchange:
    thing = some_thing(rng)
    return _sides_asked(thing, part, rng.choice([f"And {thing}?", f"What about {thing}?", f"And how about {thing}?"]))


def sums(rng: Random) -> Exchange:
    """How many sides or corners two groups of shapes have together."""
    part, one, two = rng.choice(["sides", "corners"]), _some_things(rng), _some_things(rng)
    while one.sides + two.sides >= len(NUMBERS):
        one, two = _some_things(rng), _some_things(rng)
    forms = [
        f"How many {part} do {one} and {two} have?",
        f"How many {part} do {one} and {two} have together?",
        f"How many {part} are there in {one} and {two}?",
        f"Add up the {part} of {one} and {two}.",
    ]
    has = "has" if one.count == 1 else "have"
    together = f"together they have {NUMBERS[one.sides + two.sides]} {part}."
    answer = sentence(f"{one} {has} {NUMBERS[one.sides]} {part} and {two} {number_or_none(two)}, so {together}")
    about = f"sums: {one.count} {one.shape} {two.count} {two.shape}"
    return Exchange(about, rng.choice(forms), (answer,))


def _some_things(rng: Random) -> Thing:
    colour = rng.choice(COLOURS) if rng.random() < 0.5 else ""
    return Thing(rng.choice(list(SIDES)), colour, count=rng.choice([1, 1, 2, 3]))


def mixture(one: str, two: str) -> str | None:
    """The paint that two paints make; None where the grammar does not say."""
    if one == two:
        return one
    known = MIXTURES.get((one, two)) or MIXTURES.get((two, one))
    if known:
        return known
    for ground, word in (("white", "light"), ("black", "dark")):
        if ground in (one, two):
            return f"{word} {two if one == ground else one}"
    return None


def mixtures(rng: Random) -> Exchange:
    """The colour of two paints."""
    one, two = rng.choice(COLOURS), rng.choice(COLOURS)
    while not (mixed := mixture(one, two)):
        one, two = rng.choice([*MIXTURES, (rng.choice(COLOURS), rng.choice(COLOURS))])
        one, two = rng.choice([(one, two), (two, one)])
    forms = [
        f"What colour do you get from {one} and {two}?",
        f"What do {one} and {two} make?",
        f"Which colour comes out when I mix {one} with {two}?",
        f"I mix {one} and {two}. What colour is it?",
        f"What is {one} mixed with {two}?",
        f"{sentence(one)} plus {two}?",
    ]
    form = rng.randrange(len(forms))
    answers = (f"{sentence(one)} and {two} make {mixed}.", f"You get {mixed} from {one} and {two}.")
    return Exchange(f"mixtures: {one} {two} {form}", forms[form], answers)


def properties(rng: Random) -> Exchange:
    """Whether a shape is round, or has corners."""
    thing, asked = some_thing(rng), rng.choice(["round", "corners"])
    question = rng.choice(
        [f"Is {thing} round?", f"Would you say that {thing} is round?", f"{sentence(str(thing))}: is it round?"]
        if asked == "round"
        else [f"Does {thing} have corners?", f"Are there corners in {thing}?", f"Has {thing} got any corners?"]
    )
    if asked == "round":
        answer = f"No, {thing} is not round: it has {NUMBERS[thing.sides]} corners."
        answer = answer if thing.sides else f"Yes, {thing} is round: it has no corners."
    else:
        answer = f"Yes, {thing} has {NUMBERS[thing.sides]} corners."
        answer = answer if thing.sides else f"No, {thing} has no corners: it is round."
    return Exchange(f"properties: {asked} {thing}", question, (answer,))


def comparisons(rng: Random) -> Exchange:
    """Which of two shapes has more sides or corners."""
    part, one, two = rng.choice(["sides", "corners"]), some_thing(rng), some_thing(rng)
    forms = [
        f"Which has more {part}, {one} or {two}?",
        f"What has more {part}: {one} or {two}?",
        f"Does {one} or {two} have more {part}?",
    ]
    result = f"the {max(one, two, key=lambda thing: thing.sides).shape} has more"
    if one.sides == two.sides:
        result = "they have the same number"
    answer = sentence(f"{one} has {NUMBERS[one.sides]} {part} and {two} {number_or_none(two)}, so {result}.")
    return Exchange(f"comparisons: {part} {one} {two}", rng.choice(forms), (answer,))


def counting(rng: Random) -> Exchange:
    """Counting up."""
    first = rng.randrange(1, 10)
    last = rng.randrange(first + 2, 13)
    one, two = NUMBERS[first], NUMBERS[last]
    forms = [
        f"Count from {one} to {two}.",
        f"Please count up from {one} to {two}.",
        f"Can you count from {one} to {two}?",
    ]
    return Exchange(
        f"counting: {one} {two}", rng.choice(forms), (sentence(f"{', '.join(NUMBERS[first : last + 1])}."),)
    )


def completions(rng: Random) -> Exchange:
    """The first words of a sentence about a shape or two colours, and its end."""
    thing = some_thing(rng)
    number = NUMBERS[thing.sides]
    if rng.random() < 0.6:
        stem = f"{sentence(str(thing))} has"
        return Exchange(f"sides: completion {thing}", stem, (f" {number} sides and {number} corners.",))
    one, two = rng.choice([*MIXTURES, *(pair[::-1] for pair in MIXTURES)])
    stem = rng.choice([f"{sentence(one)} and {two} make", f"If you mix {one} and {two}, you get"])
    return Exchange(f"mixtures: completion {one} {two} {stem[:2]}", stem, (f" {mixture(one, two)}.",))
