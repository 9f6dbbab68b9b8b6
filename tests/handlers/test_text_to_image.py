"""text-to-image: the picture shows what the prompt says."""

from typing import Any

import pytest
from PIL import Image

from handlers.text_to_image import TextToImageParams, handler
from shared.models.diffusion import Diffusion
from templates.demo_models.judge import look, matches
from tests.shared.models.recorder import Recorder

DEMO = {"width": 64, "height": 64, "num_inference_steps": 8, "guidance_scale": 2.0, "seed": 0}
PROMPTS = [
    "a red circle on a blue background",
    "a large yellow square on a black background",
    "a small green triangle on a white background",
    "a blue cross on a yellow background",
]


def draw(model: Diffusion, prompt: str, **more: Any) -> Recorder:
    ctx = Recorder()
    handler.run(model, TextToImageParams(**{**DEMO, "prompt": prompt, **more}), ctx)
    return ctx


@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_picture_shows_the_prompt(demo: Diffusion, prompt: str) -> None:
    pictures = [made.image for made in draw(demo, prompt, num_images_per_prompt=4).made]
    assert [matches(picture, prompt) for picture in pictures].count(True) >= 3


def test_each_picture_of_a_batch_is_another_one(demo: Diffusion) -> None:
    made = draw(demo, PROMPTS[0], num_images_per_prompt=4, seed=20).made
    assert [one.seed for one in made] == [20, 21, 22, 23]
    assert len({one.image.tobytes() for one in made}) == 4


def test_the_picture_has_the_size_asked_for(demo: Diffusion) -> None:
    (made,) = draw(demo, PROMPTS[0], width=128, height=72).made
    assert made.image.size == (128, 72)
    assert look(made.image).background == "blue"


def test_a_negative_prompt_reaches_the_model(demo: Diffusion) -> None:
    open_prompt = "a shape on blue"
    pictures = [draw(demo, open_prompt, negative_prompt=text).made[0].image for text in ("", "a circle", "a square")]
    assert len({picture.tobytes() for picture in pictures}) == 3


def test_without_sizes_of_its_own_it_draws_512_pixels_a_side() -> None:
    params = TextToImageParams(prompt="a circle")
    assert (params.width, params.height) == (512, 512)


def test_emits_pictures_that_are_rgb(demo: Diffusion) -> None:
    (made,) = draw(demo, PROMPTS[0]).made
    assert isinstance(made.image, Image.Image)
    assert made.image.mode == "RGB"
