"""The shipped checkpoint draws what prompts say that it was never trained on, and changes pictures by prompt."""

import json
import shutil
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from PIL import Image

from templates.demo_models.judge import look, matches
from templates.demo_models.measure import (
    BARS,
    CHECKPOINT,
    Sampler,
    Score,
    drawings,
    held_out,
    load,
    score,
)
from templates.demo_models.train.shapes import Scene, caption

library: Any = diffusers  # it is not typed


@pytest.fixture(scope="module")
def sampler() -> Sampler:
    return load(CHECKPOINT, "cpu")


def draw(sampler: Sampler, prompt: str, **more: Any) -> list[Image.Image]:
    options = {"num_inference_steps": 8, "guidance_scale": 2.0, "width": 64, "height": 64} | more
    images: list[Image.Image] = sampler.pipeline(prompt, generator=torch.Generator().manual_seed(0), **options).images
    return images


def test_draws_held_out_prompts(sampler: Sampler) -> None:
    scenes = held_out(24)
    result = score(sampler.draw([caption(scene) for scene in scenes]), scenes)
    assert min(result.background, result.colour, result.shape) >= 23 / 24


@pytest.mark.parametrize(
    "prompt", ["a red circle on blue", "green square, white background", "A LARGE yellow triangle on black!"]
)
def test_understands_loose_prompts(sampler: Sampler, prompt: str) -> None:
    assert matches(draw(sampler, prompt)[0], prompt)


def test_low_strength_keeps_the_layout_and_high_strength_follows_the_prompt(sampler: Sampler) -> None:
    before, painter = Scene("square", "yellow", "blue", "large", "left"), sampler.from_images()
    first, recoloured = drawings([before]) * 4, "a large orange square on the left of a blue background"
    kept = [look(image) for image in painter.draw([recoloured] * 4, image=first, strength=0.25)]
    assert {(seen.shape, seen.size, seen.position, seen.background) for seen in kept} == {
        ("square", "large", "left", "blue")
    }
    wanted = "a red circle on a white background"
    changed = painter.draw([wanted] * 4, image=first, strength=0.9)
    assert all(matches(image, wanted) for image in changed)


def test_a_negative_prompt_is_avoided(sampler: Sampler) -> None:
    prompts = ["a circle on a white background", "a circle on a black background"] * 16
    seen = [look(image).colour for image in sampler.draw(prompts)]
    avoided = [look(image).colour for image in sampler.draw(prompts, negative_prompt=["red"] * 32)]
    assert avoided.count("red") < seen.count("red")


def test_several_images_of_one_prompt_differ_and_match(sampler: Sampler) -> None:
    prompt = "a small blue square on a yellow background"
    images = draw(sampler, prompt, num_images_per_prompt=3)
    assert all(matches(image, prompt) for image in images)
    assert len({image.tobytes() for image in images}) == 3


def test_the_same_seed_gives_the_same_picture(sampler: Sampler) -> None:
    one, two = (draw(sampler, "a red cross on a white background")[0].tobytes() for _ in range(2))
    assert one == two


@pytest.mark.parametrize(("width", "height"), [(96, 128), (128, 64)])
def test_other_sizes_keep_the_background(sampler: Sampler, width: int, height: int) -> None:
    image = draw(sampler, "a red circle on a blue background", width=width, height=height)[0]
    assert image.size == (width, height)
    assert look(image).background == "blue"


def test_is_a_small_stable_diffusion_pipeline_without_pickles(tmp_path: Path) -> None:
    copy = Path(shutil.copytree(CHECKPOINT, tmp_path / "copy"))
    files = [file for file in copy.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 8_000_000
    assert {file.suffix for file in files} == {".json", ".safetensors", ".md"}
    assert type(library.DiffusionPipeline.from_pretrained(copy)) is library.StableDiffusionPipeline


def test_the_figures_beside_the_weights_reach_the_bars() -> None:
    figures = json.loads((CHECKPOINT / "figures.json").read_text())
    measured = Score(**figures["held-out prompts"])
    assert measured.pictures >= 200
    assert measured.reaches_bars(), BARS
