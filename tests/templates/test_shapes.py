"""The grammar of the demo models: scenes, drawings, captions, and what is held out."""

import numpy as np
import pytest

from templates.demo_models.train import shapes
from templates.demo_models.train.phrasing import loose_caption, reworded
from templates.demo_models.train.shapes import Request, Scene


def triple(scene: Scene) -> tuple[str, str, str]:
    return scene.shape, scene.colour, scene.background


def test_held_out_scenes_are_disjoint_from_training_and_complete_it() -> None:
    trained, held_out = set(shapes.training_scenes()), set(shapes.held_out_scenes())
    assert not trained & held_out
    assert trained | held_out == set(shapes.all_scenes())
    assert len(held_out) >= 200


def test_held_out_triples_are_unseen_at_every_size_and_place() -> None:
    trained = {triple(scene) for scene in shapes.training_scenes()}
    assert not trained & {triple(scene) for scene in shapes.held_out_scenes()}


def test_no_training_caption_asks_for_a_held_out_scene() -> None:
    rng = np.random.default_rng(0)
    held_out = {triple(scene) for scene in shapes.held_out_scenes()}
    for scene in shapes.training_scenes():
        asked = shapes.parse(loose_caption(scene, rng))
        assert (asked.shape, asked.colour, asked.background) not in held_out


def test_training_knows_every_coloured_shape_and_every_pair_of_colours() -> None:
    trained = shapes.training_scenes()
    assert len({(scene.shape, scene.colour) for scene in trained}) == 4 * 8
    assert len({(scene.colour, scene.background) for scene in trained}) == 8 * 7


def test_captions_read_as_people_write() -> None:
    assert shapes.caption(Scene("circle", "red", "blue")) == "a red circle on a blue background"
    assert shapes.caption(Scene("square", "orange", "white", "small", "left")) == (
        "a small orange square on the left of a white background"
    )
    assert shapes.caption(Scene("cross", "orange", "orange", "medium", "top")) == (
        "an orange cross at the top of an orange background"
    )


def test_every_caption_is_understood() -> None:
    for scene in shapes.all_scenes():
        asked = shapes.parse(shapes.caption(scene))
        assert (asked.shape, asked.colour, asked.background) == triple(scene)
        assert (asked.size or "medium", asked.position or "center") == (scene.size, scene.position)


def test_reworded_captions_mean_the_same() -> None:
    rng = np.random.default_rng(0)
    for scene in shapes.all_scenes():
        asked = shapes.parse(reworded(scene, rng))
        assert (asked.shape, asked.colour, asked.background) == triple(scene)
        assert (asked.size or "medium", asked.position or "center") == (scene.size, scene.position)


@pytest.mark.parametrize(
    ("prompt", "request_"),
    [
        ("red circle, blue background", Request("circle", "red", "blue")),
        ("a red circle on blue", Request("circle", "red", "blue")),
        ("a blue background with a red circle", Request("circle", "red", "blue")),
        (
            "Big GREEN square at the top, white background!",
            Request("square", "green", "white", "large", "top"),
        ),
        ("a circle on blue", Request("circle", None, "blue")),
        ("a red shape", Request(None, "red")),
        ("circle, red, in the middle", Request("circle", "red", position="center")),
        ("a cat", Request()),
    ],
)
def test_loose_prompts_are_understood(prompt: str, request_: Request) -> None:
    assert shapes.parse(prompt) == request_


def test_draws_the_colours_that_it_names() -> None:
    pixels = shapes.draw(Scene("square", "red", "blue"))
    assert pixels.shape == (64, 64, 3)
    assert tuple(pixels[32, 32]) == shapes.COLOURS["red"]
    assert tuple(pixels[0, 0]) == shapes.COLOURS["blue"]


@pytest.mark.parametrize("shape", shapes.SHAPES)
def test_shapes_are_centred_and_stay_inside(shape: str) -> None:
    rng = np.random.default_rng(0)
    centre = shapes.coverage(shape, shapes.place(Scene(shape, "red", "blue")))
    assert centre.sum(0) @ np.arange(64) / centre.sum() == pytest.approx(31.5, abs=0.1)
    assert centre.sum(1) @ np.arange(64) / centre.sum() == pytest.approx(31.5, abs=0.1)
    for position in shapes.POSITIONS:
        for size in shapes.SIZES:
            share = shapes.coverage(shape, shapes.place(Scene(shape, "red", "blue", size, position), rng))
            assert share[0].max() == share[-1].max() == share[:, 0].max() == share[:, -1].max() == 0


def test_the_same_scene_scales_with_the_picture() -> None:
    scene = Scene("triangle", "red", "blue", "small", "right")
    at = shapes.place(scene)
    small, large = (shapes.coverage("triangle", at, side, side).mean() for side in (64, 512))
    assert small == pytest.approx(large, rel=0.01)
