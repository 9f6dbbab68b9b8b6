"""The loose ways in which people ask for a scene; training hears all of them."""

from templates.demo_models.train.shapes import POSITIONS, SIZES, SYNONYMS, Rng, Scene, caption

PREFIXES = (
    "a picture of",
    "a photo of",
    "a drawing of",
    "an image of",
    "draw",
    "simple",
    "a nice",
    "beautiful flat",
)
WORDS = (*PREFIXES, *SYNONYMS, *POSITIONS, *SIZES, "in to with shape and without no")
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def loose_caption(scene: Scene, rng: Rng) -> str:
    """A caption as someone might type it: reordered, clipped, with words left out or added."""
    kind = rng.random()
    if kind < 0.35:
        words = caption(scene)
    elif kind < 0.85:
        words = reworded(scene, rng)
    else:
        words = _partial(scene, rng)
    return _decorated(words, rng)


def reworded(scene: Scene, rng: Rng) -> str:
    """All that the scene holds, in another order; a medium size and a central place mostly go unsaid."""
    thing = " ".join(filter(None, (_size(scene, rng), scene.colour, scene.shape)))
    place, ground = _place(scene, rng), f"{scene.background} background"
    forms = (
        f"a {thing} on {scene.background}" + (f", {place}" if place else ""),
        f"{thing} on {scene.background}" + (f" {place}" if place else ""),
        ", ".join(filter(None, (thing, ground, place))),
        ", ".join(filter(None, (thing, place, ground))),
        f"a {ground} with a {thing}" + (f" {place}" if place else ""),
        f"{ground}, {thing}" + (f", {place}" if place else ""),
        f"a {thing} {place + ' ' if place else ''}on a {ground}",
        f"a {thing} on a {ground}" + (f", {place}" if place else ""),
    )
    return forms[rng.integers(len(forms))]


def _partial(scene: Scene, rng: Rng) -> str:
    """Some of what the scene holds: teaches single words, which is also what negative prompts consist of."""
    ground = f"{scene.background} background"
    forms = (
        f"a {scene.colour} {scene.shape}",
        f"a {scene.shape}",
        f"a {scene.colour} shape",
        scene.colour,
        ground,
        f"a {scene.shape} on a {ground}",
        f"a shape on a {ground}",
        f"a {scene.colour} shape on a {ground}",
    )
    return forms[rng.integers(len(forms))]


def _size(scene: Scene, rng: Rng) -> str:
    if scene.size == "medium" and rng.random() < 0.85:
        return ""
    return _synonym(scene.size, rng)


def _place(scene: Scene, rng: Rng) -> str:
    if scene.position == "center" and rng.random() < 0.8:
        return ""
    word = _synonym(scene.position, rng)
    forms = (word, f"on the {word}", f"at the {word}", f"in the {word}", f"to the {word}")
    return forms[rng.integers(len(forms))]


def _synonym(word: str, rng: Rng) -> str:
    words = [word, word, *(other for other, meaning in SYNONYMS.items() if meaning == word)]
    return words[rng.integers(len(words))]


def _decorated(words: str, rng: Rng) -> str:
    """Now and then a prefix, or a word that means nothing here, so that such words come to change nothing."""
    kind = rng.random()
    if kind < 0.10:
        return f"{PREFIXES[rng.integers(len(PREFIXES))]} {words.removeprefix('a ')}"
    if kind < 0.15:
        return f"{''.join(rng.choice(list(LETTERS), rng.integers(2, 7)))} {words}"
    return words
