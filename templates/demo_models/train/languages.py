"""Questions whose answers hold characters of several bytes: words of other languages, and coloured emoji."""

from random import Random

from templates.demo_models.train.questions import Exchange, Thing, sentence

LANGUAGES = {
    "Japanese": {"red": "赤", "green": "緑", "blue": "青", "yellow": "黄色", "purple": "紫", "orange": "オレンジ"}
    | {"white": "白", "black": "黒", "circle": "円", "square": "四角", "triangle": "三角", "cross": "十字"}
    | {"large": "大きい", "small": "小さい"},
    "German": {"red": "rot", "green": "grün", "blue": "blau", "yellow": "gelb", "purple": "lila", "orange": "orange"}
    | {"white": "weiß", "black": "schwarz", "circle": "Kreis", "square": "Quadrat", "triangle": "Dreieck"}
    | {"cross": "Kreuz", "large": "groß", "small": "klein"},
    "French": {"red": "rouge", "green": "vert", "blue": "bleu", "yellow": "jaune", "purple": "violet"}
    | {"orange": "orange", "white": "blanc", "black": "noir", "circle": "cercle", "square": "carré"}
    | {"triangle": "triangle", "cross": "croix", "large": "grand", "small": "petit"},
}
EMOJI = {
    "circle": {"red": "🔴", "orange": "🟠", "yellow": "🟡", "green": "🟢", "blue": "🔵", "purple": "🟣"}
    | {"brown": "🟤", "black": "⚫", "white": "⚪"},
    "square": {"red": "🟥", "orange": "🟧", "yellow": "🟨", "green": "🟩", "blue": "🟦", "purple": "🟪"}
    | {"brown": "🟫", "black": "⬛", "white": "⬜"},
}


def translations(rng: Random) -> Exchange:
    """A word in another language, or what a word of another language means."""
    language = rng.choice(list(LANGUAGES))
    word, foreign = rng.choice(list(LANGUAGES[language].items()))
    forms = (
        f"How do you say {word} in {language}?",
        f"What is {word} in {language}?",
        f"What is the {language} word for {word}?",
        f"Translate {word} into {language}.",
        f"{sentence(word)} in {language}, please.",
    )
    back = (f"What does {foreign} mean in {language}?", f"What does the {language} word {foreign} mean?")
    turn = rng.randrange(len(forms) + len(back))
    about = f"translations: {word} {language} {turn}"
    if turn < len(forms):
        answers = (f"{sentence(word)} is {foreign} in {language}.", f"The {language} word for {word} is {foreign}.")
        return Exchange(about, forms[turn], answers)
    return Exchange(about, back[turn - len(forms)], (f"The {language} word {foreign} means {word}.",))


def emoji(rng: Random) -> Exchange:
    """Coloured shapes as emoji: one group of up to five, or two shapes."""
    one = _drawable(rng, rng.choice([1, 2, 3, 4, 5]))
    if rng.random() < 0.5:
        return _shown(str(one), _drawn(one), rng)
    one, two = _drawable(rng, 1), _drawable(rng, 1)
    return _shown(f"{one} and {two}", f"{_drawn(one)} and {_drawn(two)}", rng)


def _shown(words: str, drawn: str, rng: Random) -> Exchange:
    forms = (f"Show me {words}.", f"Show {words} as emoji.", f"Can you show me {words}?", f"Print {words}.")
    answers = (f"Here you see {words}: {drawn}", f"As emoji: {drawn}")
    return Exchange(f"emoji: {words}", rng.choice(forms), answers)


def _drawable(rng: Random, count: int) -> Thing:
    shape = rng.choice(list(EMOJI))
    return Thing(shape, rng.choice(list(EMOJI[shape])), count=count)


def _drawn(thing: Thing) -> str:
    return EMOJI[thing.shape][thing.colour] * thing.count


def foreign_completions(rng: Random) -> Exchange:
    """The first words of a sentence about emoji or another language, and its end."""
    if rng.random() < 0.5:
        thing = _drawable(rng, rng.choice([1, 2, 3, 4, 5]))
        return Exchange(f"emoji: {thing}", f"This is {thing}:", (f" {_drawn(thing)}",))
    language = rng.choice(list(LANGUAGES))
    word, foreign = rng.choice(list(LANGUAGES[language].items()))
    stems = (f"{sentence(word)} in {language} is", f"The {language} word for {word} is")
    turn = rng.randrange(len(stems))
    return Exchange(f"translations: completion {word} {language} {turn}", stems[turn], (f" {foreign}.",))
