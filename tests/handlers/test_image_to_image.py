"""image-to-image: low strength keeps the picture, high strength follows the prompt."""

from typing import Any

import pytest
from PIL import Image
from pydantic import ValidationError

from handlers.image_to_image import LONGEST_SIDE, ImageToImageParams, fit, handler
from shared.models.diffusion import Diffusion
from templates.demo_models.judge import look, matches
from templates.demo_models.measure import drawings
from templates.demo_models.train.shapes import Scene
from tests.shared.models.recorder import Recorder

DEMO = {"num_inference_steps": 16, "guidance_scale": 2.0, "seed": 0}
BEFORE = drawings([Scene("square", "yellow", "blue", "large")])[0]
PROMPT = "a small red circle on a white background"


def change(model: Diffusion, **more: Any) -> Recorder:
    ctx = Recorder()
    handler.run(model, ImageToImageParams(**{**DEMO, "prompt": PROMPT, "image": BEFORE, **more}), ctx)
    return ctx


def test_low_strength_keeps_the_picture(demo: Diffusion) -> None:
    """Even against a prompt for another one: a tenth keeps all, a fifth the layout if not the colours."""
    little = [look(made.image) for made in change(demo, strength=0.1, num_images_per_prompt=4).made]
    more = [look(made.image) for made in change(demo, strength=0.2, num_images_per_prompt=4).made]
    assert {(one.shape, one.colour, one.background) for one in little} == {("square", "yellow", "blue")}
    assert {(one.shape, one.size, one.position) for one in more} == {("square", "large", "center")}


def test_high_strength_follows_the_prompt(demo: Diffusion) -> None:
    made = change(demo, strength=0.95, num_images_per_prompt=4).made
    assert [matches(one.image, PROMPT) for one in made].count(True) >= 3


def test_strength_decides_how_many_steps_are_run(demo: Diffusion) -> None:
    for strength, steps in ((0.25, 4), (0.5, 8), (1.0, 16)):
        ctx = change(demo, strength=strength)
        assert ctx.steps == [(n + 1, steps) for n in range(steps)]


def test_the_picture_keeps_its_size_unless_another_is_asked_for(demo: Diffusion) -> None:
    wide = BEFORE.resize((128, 64))
    assert change(demo, image=wide, strength=0.2).made[0].image.size == (128, 64)
    assert change(demo, image=wide, strength=0.2, width=64).made[0].image.size == (64, 64)


def test_the_picture_given_is_not_changed(demo: Diffusion) -> None:
    before = BEFORE.tobytes()
    change(demo, strength=1.0)
    assert BEFORE.tobytes() == before


@pytest.mark.parametrize(
    ("own", "asked", "expected"),
    [
        ((512, 512), (None, None), (512, 512)),
        ((513, 519), (None, None), (512, 512)),
        ((50, 30), (None, None), (64, 64)),
        ((4096, 2048), (None, None), (2048, 1024)),
        ((10_000, 20), (None, None), (2048, 64)),
        ((300, 200), (128, None), (128, 200)),
        ((300, 200), (None, 128), (296, 128)),
        ((300, 200), (64, 72), (64, 72)),
    ],
)
def test_a_picture_is_fitted(
    own: tuple[int, int], asked: tuple[int | None, int | None], expected: tuple[int, int]
) -> None:
    fitted = fit(Image.new("RGB", own), *asked)
    assert fitted.size == expected
    assert all(side % 8 == 0 and 64 <= side <= LONGEST_SIDE for side in fitted.size)


def test_a_picture_of_the_right_size_is_left_alone() -> None:
    image = Image.new("RGB", (64, 128))
    assert fit(image, None, None) is image


@pytest.mark.parametrize(("steps", "strength", "fits"), [(2, 0.5, True), (2, 0.49, False), (1, 1.0, True)])
def test_strength_must_leave_a_step(steps: int, strength: float, fits: bool) -> None:
    asked: dict[str, Any] = {"prompt": "a", "image": BEFORE, "num_inference_steps": steps, "strength": strength}
    if fits:
        ImageToImageParams(**asked)
    else:
        with pytest.raises(ValidationError, match="no step is left"):
            ImageToImageParams(**asked)
