"""The judge sees what was drawn, in any size, blurred or noisy, and nothing where nothing is."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

from templates.demo_models import judge
from templates.demo_models.measure import Score, drawings, score
from templates.demo_models.train import shapes
from templates.demo_models.train.shapes import Scene

SCENE = Scene("triangle", "red", "blue", "small", "left")


def sample(count: int) -> list[Scene]:
    scenes = shapes.all_scenes()
    return [scenes[number] for number in np.random.default_rng(0).permutation(len(scenes))[:count]]


def picture(scene: Scene, width: int = 64, height: int = 64) -> Image.Image:
    return Image.fromarray(shapes.draw(scene, None, width, height))


def test_sees_every_drawing_as_what_it_is() -> None:
    scenes = sample(300)
    assert score(drawings(scenes), scenes) == Score(300, 1, 1, 1, 1, 1, 1)


def test_sees_through_blur_and_noise() -> None:
    rng, scenes = np.random.default_rng(0), sample(100)
    blurred = [drawing.filter(ImageFilter.GaussianBlur(1)) for drawing in drawings(scenes)]
    noisy = [Image.fromarray(np.clip(rng.normal(np.asarray(one), 5), 0, 255).astype(np.uint8)) for one in blurred]
    assert score(noisy, scenes).everything >= 0.98


@pytest.mark.parametrize(("width", "height"), [(64, 64), (128, 96), (96, 160), (512, 512)])
def test_sees_pictures_of_any_size(width: int, height: int) -> None:
    seen = judge.look(picture(SCENE, width, height))
    assert (seen.shape, seen.colour, seen.background) == ("triangle", "red", "blue")
    assert (seen.size, seen.position) == ("small", "left")
    assert seen.fit > 0.95


def test_sees_nothing_on_an_empty_picture() -> None:
    seen = judge.look(Image.new("RGB", (64, 64), shapes.COLOURS["green"]))
    assert seen == judge.Seen(shape=None, colour=None, background="green")


def test_calls_a_shape_that_it_does_not_know_no_shape() -> None:
    two = shapes.draw(Scene("circle", "white", "black", "small", "left"))
    two[:, 32:] = shapes.draw(Scene("circle", "white", "black", "small", "right"))[:, 32:]
    seen = judge.look(Image.fromarray(two))
    assert seen.shape is None
    assert (seen.colour, seen.background) == ("white", "black")


def test_matches_what_the_prompt_says_and_no_more() -> None:
    image = picture(SCENE)
    assert judge.matches(image, shapes.caption(SCENE))
    assert judge.matches(image, "red triangle, blue background")
    assert judge.matches(image, "a triangle")


@pytest.mark.parametrize(
    "prompt",
    [
        "a red circle on a blue background",
        "a green triangle on a blue background",
        "a red triangle on a green background",
        "a large red triangle on a blue background",
        "a red triangle on the right of a blue background",
    ],
)
def test_does_not_match_what_the_prompt_does_not_say(prompt: str) -> None:
    assert not judge.matches(picture(SCENE), prompt)


def test_the_bars_are_of_the_share_of_right_pictures() -> None:
    assert Score(200, 0.99, 0.98, 0.95, 0.5, 0.5, 0.5).reaches_bars()
    assert not Score(200, 1, 1, 0.945, 1, 1, 0.94).reaches_bars()
    assert not Score(200, 1, 0.975, 1, 1, 1, 0.97).reaches_bars()
    assert not Score(200, 0.985, 1, 1, 1, 1, 0.98).reaches_bars()
