"""Diffusion checkpoints of every family we know: loaded once, sampled by each job as if it were alone."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from shared.errors import Cancelled, InvalidInput
from shared.models.diffusion import Diffusion, generators, load
from tests.shared.conftest import Checkpoint
from tests.shared.models.drawing import CHANGE, CPU, DRAW, SIZE, change, draw, psnr, same, source
from tests.shared.models.recorder import Recorder


def state(part: Any) -> dict[str, str]:
    """All that an object holds, in a form that can be compared."""
    return {name: repr(value) for name, value in vars(part).items()}


@pytest.mark.parametrize(
    ("name", "task", "expected"),
    [
        ("sd", DRAW, "StableDiffusionPipeline"),
        ("sd", CHANGE, "StableDiffusionImg2ImgPipeline"),
        ("sdxl", DRAW, "StableDiffusionXLPipeline"),
        ("sdxl", CHANGE, "StableDiffusionXLImg2ImgPipeline"),
        ("pix2pix", CHANGE, "StableDiffusionInstructPix2PixPipeline"),
    ],
)
def test_the_checkpoint_and_the_task_decide_the_pipelines_class(
    warm: dict[str, Diffusion], name: str, task: Any, expected: str
) -> None:
    assert type(warm[name].pipeline(task, None, 2)).__name__ == expected


@pytest.mark.parametrize("name", ["sd", "sdxl"])
def test_both_tasks_run_on_the_same_weights(warm: dict[str, Diffusion], name: str) -> None:
    pipes = [warm[name].pipeline(task, None, 2) for task in (DRAW, CHANGE, DRAW)]
    for part, loaded in warm[name].parts.items():
        if part != "scheduler":
            assert all(getattr(pipe, part) is loaded for pipe in pipes), part


def test_each_job_has_a_scheduler_of_its_own(warm: dict[str, Diffusion]) -> None:
    schedulers = [warm["sd"].pipeline(task, None, 2).scheduler for task in (DRAW, DRAW, CHANGE)]
    schedulers.append(warm["sd"].parts["scheduler"])
    assert len({id(scheduler) for scheduler in schedulers}) == 4
    assert {type(scheduler).__name__ for scheduler in schedulers} == {"PNDMScheduler"}


@pytest.mark.parametrize("name", ["sd", "sdxl", "pix2pix"])
def test_a_cancelled_job_stops_at_its_step_and_leaves_no_trace(warm: dict[str, Diffusion], name: str) -> None:
    model, make = warm[name], change if name == "pix2pix" else draw
    before, undisturbed = state(model.parts["scheduler"]), make(model, num_inference_steps=6)
    stopped = Recorder(stop_at=3)
    with pytest.raises(Cancelled, match="asked"):
        make(model, stopped, num_inference_steps=6)
    assert [step for step, _ in stopped.steps] == [1, 2, 3]
    assert stopped.made == []
    assert state(model.parts["scheduler"]) == before
    assert same(make(model, num_inference_steps=6), undisturbed)


@pytest.mark.parametrize("name", ["sd", "sdxl", "pix2pix"])
def test_reports_every_step_up_to_the_last(warm: dict[str, Diffusion], name: str) -> None:
    ctx = Recorder()
    (change if name == "pix2pix" else draw)(warm[name], ctx, num_inference_steps=5)
    total = ctx.steps[0][1]
    assert total >= 5
    assert ctx.steps == [(n + 1, total) for n in range(total)]


def test_runs_only_the_steps_that_strength_leaves(warm: dict[str, Diffusion]) -> None:
    ctx = Recorder()
    change(warm["sdxl"], ctx, num_inference_steps=10, strength=0.3)
    assert ctx.steps == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("sd", "a | b", {"prompt": "a | b"}),
        ("sdxl", "a | b", {"prompt": "a", "prompt_2": "b"}),
        ("sdxl", "a", {"prompt": "a"}),
        ("sdxl", "a | b | c", {"prompt": "a", "prompt_2": "b | c"}),
    ],
)
def test_a_bar_parts_the_prompt_for_models_with_two_encoders(
    warm: dict[str, Diffusion], name: str, text: str, expected: dict[str, str]
) -> None:
    assert warm[name].split_prompt("prompt", text) == expected


def test_the_second_prompt_reaches_the_second_encoder(warm: dict[str, Diffusion]) -> None:
    pipe = warm["sdxl"].pipeline(DRAW, None, 2)
    direct = pipe("red", "blue", num_inference_steps=2, guidance_scale=3.0, generator=generators(7, 1), **SIZE)
    assert same(draw(warm["sdxl"], prompt="red | blue"), direct.images[0])
    assert not same(draw(warm["sdxl"], prompt="blue | red"), direct.images[0])


def test_the_second_negative_prompt_reaches_the_second_encoder(warm: dict[str, Diffusion]) -> None:
    pictures = [draw(warm["sdxl"], negative_prompt=text) for text in ("red", "red | blue", "blue | red")]
    assert len({picture.tobytes() for picture in pictures}) == 3


def test_no_negative_prompt_is_what_the_model_takes_for_none(warm: dict[str, Diffusion]) -> None:
    """SDXL was trained with zeros in its place, which are not the encoding of an empty text."""
    pipe = warm["sdxl"].pipeline(DRAW, None, 2)
    assert pipe.config.force_zeros_for_empty_prompt
    direct = pipe("a red circle", num_inference_steps=2, guidance_scale=3.0, generator=generators(7, 1), **SIZE)
    assert same(draw(warm["sdxl"]), direct.images[0])


def test_pix2pix_is_guided_by_the_picture_and_takes_no_strength(warm: dict[str, Diffusion]) -> None:
    family = warm["pix2pix"].family
    assert (family.strength, family.image_guidance) == (False, True)
    loose, close = (change(warm["pix2pix"], image_guidance_scale=scale) for scale in (1.0, 5.0))
    assert not same(loose, close)


def test_pix2pix_cannot_draw_from_nothing(warm: dict[str, Diffusion]) -> None:
    with pytest.raises(InvalidInput, match="'ours/tiny' does not do text-to-image"):
        draw(warm["pix2pix"])


@pytest.mark.parametrize("model_id", ["stabilityai/sd-turbo", "stabilityai/sdxl-turbo"])
def test_turbo_models_run_without_guidance_and_say_so(warm: dict[str, Diffusion], model_id: str) -> None:
    loaded = warm["sdxl" if "xl" in model_id else "sd"]
    turbo = replace(loaded, source=source(loaded.source.path, model_id))
    ctx = Recorder()
    asked_for_much = draw(turbo, ctx, guidance_scale=9.0)
    assert ctx.differs["guidance_scale"] == 0.0
    assert same(asked_for_much, draw(loaded, guidance_scale=0.0))
    assert not same(asked_for_much, draw(loaded, guidance_scale=9.0))


def test_the_pipelines_own_flags_are_kept(checkpoint: Checkpoint, tmp_path: Path) -> None:
    """Such as SDXL's for an empty negative prompt, which changes pictures and is true where nobody says otherwise."""
    folder = tmp_path / "sdxl"
    shutil.copytree(checkpoint("sdxl"), folder)
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, "force_zeros_for_empty_prompt": False}))
    model = load(source(folder), CPU)
    for task in (DRAW, CHANGE):
        assert model.pipeline(task, None, 2).config.force_zeros_for_empty_prompt is False


def test_a_seed_is_drawn_and_said_where_none_is_given(warm: dict[str, Diffusion]) -> None:
    first, second = Recorder(), Recorder()
    draw(warm["sd"], first, seed=None)
    draw(warm["sd"], second, seed=None)
    assert first.differs["seed"] == first.made[0].seed
    assert first.differs["seed"] != second.differs["seed"]
    assert same(draw(warm["sd"], seed=first.differs["seed"]), first.made[0].image)


@pytest.mark.parametrize(
    ("name", "make"), [("sd", draw), ("sdxl", draw), ("sd", change), ("sdxl", change), ("pix2pix", change)]
)
@pytest.mark.parametrize("scheduler", [None, "EulerAncestralDiscreteScheduler"])
def test_image_k_of_a_batch_is_what_its_seed_draws_alone(
    warm: dict[str, Diffusion], name: str, make: Callable[..., Image.Image], scheduler: str | None
) -> None:
    ctx = Recorder()
    make(warm[name], ctx, num_images_per_prompt=3, scheduler=scheduler)
    assert [made.seed for made in ctx.made] == [7, 8, 9]
    for made in ctx.made:
        alone = make(warm[name], seed=made.seed, scheduler=scheduler)
        assert psnr(alone, made.image) >= 45
    assert psnr(ctx.made[0].image, ctx.made[1].image) < 45


def test_a_checker_flags_and_blackens_what_it_finds_indecent(warm: dict[str, Diffusion]) -> None:
    checked, unchecked = Recorder(), Recorder()
    draw(warm["sd-checked"], checked)
    draw(warm["sd-checked"], unchecked, safety_check=False)
    assert checked.made[0].nsfw
    assert checked.made[0].image.getextrema() == ((0, 0),) * 3
    assert not unchecked.made[0].nsfw
    assert same(unchecked.made[0].image, draw(warm["sd"]))
    assert (checked.facts["safety_checked"], unchecked.facts["safety_checked"]) == (True, False)


def test_a_model_without_a_checker_does_not_claim_to_check(warm: dict[str, Diffusion]) -> None:
    ctx = Recorder()
    draw(warm["sd"], ctx, safety_check=True)
    assert ctx.facts["safety_checked"] is False
