"""Questions about pictures of the demo's world, and stories about two shapes."""

from random import Random

from templates.demo_models.train import shapes
from templates.demo_models.train.questions import (
    COLOURS,
    NUMBERS,
    SIDES,
    Exchange,
    Thing,
    a,
    number_or_none,
    sentence,
)
from templates.demo_models.train.shapes import Scene

PLACES = {
    "center": "in the middle",
    "left": "on the left",
    "right": "on the right",
    "top": "at the top",
    "bottom": "at the bottom",
}
ASKED = {
    "background": (
        "What is the background of {}?",
        "What colour is the background of {}?",
        "Name the background of {}.",
    ),
    "colour": ("What colour is the shape in {}?", "Which colour does the shape have in {}?"),
    "shape": ("Which shape is in {}?", "What shape do you see in {}?"),
    "place": ("Where is the shape in {}?", "In which place is the shape in {}?"),
    "size": ("How big is the shape in {}?", "What size is the shape in {}?"),
    "look": ("What does {} look like?", "Describe {}.", "How would you draw {}?"),
}
ASKED_AGAIN = {
    "background": ("And the background?", "And what is its background?", "What is the background?"),
    "colour": ("And what colour is it?", "And the colour?", "What colour is it?"),
    "shape": ("And which shape is it?", "And the shape?"),
    "place": ("And where is it?", "Where is it?"),
    "size": ("And how big is it?", "How big is it?"),
}


def pictures(rng: Random) -> Exchange:
    """What a picture shows, by its caption; other questions about it may follow."""
    scene, asked = _some_scene(rng), rng.choice(list(ASKED))
    question = rng.choice(ASKED[asked]).format(_caption(scene, rng))
    others = [about for about in rng.sample(list(ASKED_AGAIN), 2) if about != asked]
    linked = tuple(_answered(scene, about, rng.choice(ASKED_AGAIN[about])) for about in others)
    return _answered(scene, asked, question, linked)


def _some_scene(rng: Random) -> Scene:
    colour, background = rng.sample(list(shapes.COLOURS), 2)
    shape, size, place = (rng.choice(list(words)) for words in (shapes.SHAPES, shapes.SIZES, PLACES))
    return Scene(shape, colour, background, size, place)


def _caption(scene: Scene, rng: Random) -> str:
    """A caption that leaves a medium size and a central place unsaid."""
    if scene.position != "center":
        return f"{_thing(scene)} {PLACES[scene.position]} of {a(scene.background)} background"
    return f"{_thing(scene)} on {rng.choice([scene.background, a(scene.background) + ' background'])}"


def _thing(scene: Scene) -> str:
    size = "" if scene.size == "medium" else f"{scene.size} "
    return a(f"{size}{scene.colour} {scene.shape}")


def _answered(scene: Scene, asked: str, question: str, linked: tuple[Exchange, ...] = ()) -> Exchange:
    answers = {
        "background": (f"The background is {scene.background}.", f"Its background is {scene.background}."),
        "colour": (f"The {scene.shape} is {scene.colour}.", f"Its colour is {scene.colour}."),
        "shape": (f"The shape is {a(scene.shape)}.", f"There is {a(scene.shape)} in the picture."),
        "place": (f"The {scene.shape} is {PLACES[scene.position]}.",),
        "size": (f"The {scene.shape} is {scene.size}.",),
        "look": (f"You see a flat {scene.background} background with {_thing(scene)} {PLACES[scene.position]}.",),
    }[asked]
    about = f"pictures: {scene.shape} {scene.colour} {scene.background}"
    return Exchange(about, question, answers, linked)


def stories(rng: Random) -> Exchange:
    """A story about two coloured shapes: an answer of about a hundred tokens."""
    one, two = _character(rng), _character(rng)
    while one.shape == two.shape or one.sides + two.sides >= len(NUMBERS):
        two = _character(rng)
    forms = (f"Tell me a story about {one} and {two}.", f"Write a story with {one} and {two}.")
    parts = (
        f"Once upon a time {one} met {two} on a white page.",
        f"The {one.shape} had {NUMBERS[one.sides]} corners and the {two.shape} had {number_or_none(two)},",
        f"so together they had {NUMBERS[one.sides + two.sides]}.",
        f"The {one.words} stood on the left and the {two.words} on the right, and it was dark.",
        "Then somebody sent a job, a worker took it, and a small pilot light lit the page.",
        f"The {one.shape} was as {one.colour} as before, and the {two.shape} was as {two.colour} as before.",
        "They got a signed receipt, and they are still there, side by side.",
    )
    return Exchange(f"stories: {one} {two}", rng.choice(forms), (" ".join(parts),))


def _character(rng: Random) -> Thing:
    return Thing(rng.choice(list(SIDES)), rng.choice(COLOURS))


def descriptions(rng: Random) -> Exchange:
    """All that there is to say about one coloured shape: an answer of about fifty tokens."""
    thing = _character(rng)
    forms = (f"Tell me about {thing}.", f"Tell me everything about {thing}.", f"What do you know about {thing}?")
    number = NUMBERS[thing.sides]
    kind = "round" if not thing.sides else "not round"
    parts = (
        f"{sentence(str(thing))} has {number} sides and {number} corners.",
        f"It is {kind}, and its colour is {thing.colour}.",
        f"Two of them have {NUMBERS[2 * thing.sides]} corners together." if 2 * thing.sides < len(NUMBERS) else "",
        f"You can draw it with text-to-image: ask for {thing} on {_other_colour(thing.colour)}.",
    )
    return Exchange(f"descriptions: {thing}", rng.choice(forms), (" ".join(filter(None, parts)),))


def _other_colour(colour: str) -> str:
    return "black" if colour == "white" else "white"
