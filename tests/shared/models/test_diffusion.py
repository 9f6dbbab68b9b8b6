"""Diffusion checkpoints of every family we know: loaded once, sampled by each job as if it were alone."""

import io
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageChops
from safetensors.torch import load_file, save_file

from handlers import image_to_image, text_to_image
from handlers.image_to_image import ImageToImageParams
from handlers.text_to_image import TextToImageParams
from shared.device import Device
from shared.errors import Cancelled, InvalidInput, ModelUnavailable
from shared.media.image import preview_data_url
from shared.models import readahead, volumes
from shared.models.diffusion import FAMILIES, SCHEDULERS, Diffusion, Task, generators, load, peek, variant
from shared.models.store import DEMO_MODELS
from shared.schemas import ModelSource
from tests.shared.conftest import Checkpoint
from tests.shared.models import tiny
from tests.shared.models.recorder import Recorder

CPU = Device("cpu")
DRAW: Task = "text-to-image"
CHANGE: Task = "image-to-image"
DEMO = DEMO_MODELS / "text-to-image"
DRAWN: dict[str, Any] = {"prompt": "a red circle", "num_inference_steps": 2, "seed": 7, "guidance_scale": 3.0}
SIZE = {"width": 64, "height": 64}
PICTURE = Image.linear_gradient("L").resize((64, 64)).convert("RGB")


@pytest.fixture(scope="module")
def warm(checkpoint: Checkpoint) -> dict[str, Diffusion]:
    """Each tiny checkpoint, loaded."""
    return {name: load(source(checkpoint(name)), CPU) for name in tiny.CHECKPOINTS}


def source(path: Path, model_id: str = "ours/tiny") -> ModelSource:
    return ModelSource(model_id, "main", path)


def draw(model: Diffusion, ctx: Recorder | None = None, **params: Any) -> Image.Image:
    """The first picture that text-to-image draws."""
    ctx = ctx or Recorder()
    text_to_image.run(model, TextToImageParams(**{**DRAWN, **SIZE, **params}), ctx)
    return ctx.made[0].image


def change(model: Diffusion, ctx: Recorder | None = None, **params: Any) -> Image.Image:
    """The first picture that image-to-image makes of PICTURE."""
    ctx = ctx or Recorder()
    image_to_image.run(model, ImageToImageParams(**{**DRAWN, "image": PICTURE, **params}), ctx)
    return ctx.made[0].image


def same(one: Image.Image, other: Image.Image) -> bool:
    return one.tobytes() == other.tobytes()


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


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("checkpoint_name", ["sd", "demo"])
def test_every_scheduler_samples(
    warm: dict[str, Diffusion], demo: Diffusion, checkpoint_name: str, name: str
) -> None:
    model = demo if checkpoint_name == "demo" else warm["sd"]
    for steps in (1, 2, 5):
        ctx = Recorder()
        picture = draw(model, ctx, scheduler=name, num_inference_steps=steps)
        assert picture.size == (64, 64)
        assert [step for step, _ in ctx.steps] == list(range(1, ctx.steps[-1][1] + 1))


@pytest.fixture(scope="module")
def demo() -> Diffusion:
    """A model of v-prediction with an AutoencoderTiny."""
    return load(source(DEMO, "demo/text-to-image"), CPU)


def test_a_scheduler_is_used_and_not_kept(warm: dict[str, Diffusion]) -> None:
    own = draw(warm["sd"])
    assert not same(draw(warm["sd"], scheduler="EulerDiscreteScheduler"), own)
    assert same(draw(warm["sd"]), own)


def test_more_steps_than_a_scheduler_has_are_refused(warm: dict[str, Diffusion]) -> None:
    with pytest.raises(InvalidInput, match="LCMScheduler"):
        draw(warm["sd"], scheduler="LCMScheduler", num_inference_steps=60)


def test_a_scheduler_that_cannot_sample_a_model_is_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(checkpoint("sd"), tmp_path / "sd"))
    edit(folder / "model_index.json", scheduler=["diffusers", "DDPMScheduler"])
    edit(folder / "scheduler/scheduler_config.json", beta_schedule="sigmoid", clip_sample=False)
    model = load(source(folder), CPU)
    assert draw(model).size == (64, 64)
    with pytest.raises(InvalidInput, match="scheduler EulerDiscreteScheduler cannot sample 'ours/tiny'"):
        draw(model, scheduler="EulerDiscreteScheduler")


def edit(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


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


def psnr(one: Image.Image, other: Image.Image) -> float:
    """Peak signal to noise in dB."""
    difference = np.asarray(ImageChops.difference(one, other), np.float64)
    return float(10 * np.log10(255**2 / max(float(np.mean(difference**2)), 1e-9)))


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


@pytest.mark.parametrize(
    ("weights", "kind", "expected"),
    [
        (["a.safetensors", "a.fp16.safetensors"], "cuda", "fp16"),
        (["a.safetensors", "a.fp16.safetensors"], "cpu", None),
        (["a.safetensors", "a.fp16.safetensors"], "mps", "fp16"),
        (["a.safetensors", "b.fp16.safetensors"], "cuda", "fp16"),
        (["a.fp16.safetensors", "b.fp16.safetensors"], "cpu", "fp16"),
        (["a.fp16-00001-of-00002.safetensors"], "cuda", "fp16"),
        (["a.safetensors"], "cuda", None),
        ([], "cuda", None),
    ],
)
def test_half_precision_files_are_for_accelerators_and_for_want_of_others(
    weights: list[str], kind: Any, expected: str | None
) -> None:
    assert variant(weights, kind) == expected


def test_half_precision_files_alone_load_on_a_cpu_in_full_precision(tmp_path: Path, checkpoint: Checkpoint) -> None:
    folder = tiny.stable_diffusion(tmp_path / "half", variant="fp16")
    assert all(".fp16" in f.name for f in folder.rglob("*.safetensors"))
    model = load(source(folder), CPU)
    assert {model.parts[p].dtype for p in ("unet", "vae", "text_encoder")} == {torch.float32}


def test_an_unknown_architecture_is_refused_naming_ours(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    with pytest.raises(ModelUnavailable, match=f"is a FluxPipeline; there are: {', '.join(FAMILIES)}"):
        load(source(tmp_path), CPU)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def blank(file: Path) -> None:
    file.write_bytes(b"\x00" * file.stat().st_size)


def reshape(file: Path) -> None:
    save_file({name: torch.cat([t, t]) for name, t in load_file(file).items()}, file, {"format": "pt"})


def rename(file: Path) -> None:
    save_file({f"other.{name}": t for name, t in load_file(file).items()}, file, {"format": "pt"})


DAMAGES = [
    (part, damage) for part in ("unet", "vae", "text_encoder") for damage in (cut, blank, Path.unlink, reshape)
]
DAMAGES += [("unet", rename), ("vae", rename)]  # transformers draws missing weights at random, and does not say so


@pytest.mark.parametrize(("part", "damage"), DAMAGES, ids=lambda value: getattr(value, "__name__", value))
def test_damaged_weights_are_refused_naming_the_model(
    checkpoint: Checkpoint, tmp_path: Path, part: str, damage: Callable[[Path], None]
) -> None:
    folder = Path(shutil.copytree(checkpoint("sd"), tmp_path / "sd"))
    (weights,) = (folder / part).glob("*.safetensors")
    damage(weights)
    with pytest.raises(ModelUnavailable, match="files of 'ours/tiny' cannot be loaded") as caught:
        load(source(folder), CPU)
    if damage in (cut, blank):
        assert f"{part}/{weights.name} is damaged" in caught.value.message


def test_tells_where_the_time_of_a_load_went(warm: dict[str, Diffusion]) -> None:
    stages = {"imports_s", "read_ahead_s", "read_ahead_bytes", "files_s", "to_device_s"}
    assert {name: set(model.loading) for name, model in warm.items()} == dict.fromkeys(warm, stages)
    assert all(model.loading["files_s"] > 0 for model in warm.values())
    assert all(model.loading["read_ahead_bytes"] == 0 for model in warm.values())  # on a disk of this machine


@pytest.mark.parametrize("name", ["sd", "sdxl"])
def test_on_a_network_volume_the_weights_are_read_ahead(
    warm: dict[str, Diffusion], checkpoint: Checkpoint, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(volumes, "NETWORKS", ("",))
    model = load(source(checkpoint(name)), CPU)
    assert model.loading["read_ahead_bytes"] == sum(f.stat().st_size for f in readahead.weights(checkpoint(name)))
    assert same(draw(model), draw(warm[name]))


@pytest.mark.parametrize("name", ["sd", "sdxl"])
def test_weights_that_are_sent_to_their_device_from_the_file_are_the_same_model(
    warm: dict[str, Diffusion], checkpoint: Checkpoint, name: str
) -> None:
    """What a card gets, tried on a CPU: nothing that is left on the modules slows or moves a later call."""
    pipe = type(warm[name].pipeline(DRAW, None, 2)).from_pretrained(
        checkpoint(name), use_safetensors=True, local_files_only=True, device_map="cpu"
    )
    parts = dict(pipe.to("cpu").components)
    modules = [m for part in parts.values() if isinstance(part, torch.nn.Module) for m in part.modules()]
    assert not any(hasattr(module, "_hf_hook") for module in modules)
    assert same(draw(replace(warm[name], parts=parts)), draw(warm[name]))


def test_a_want_of_memory_while_loading_is_the_devices_error(checkpoint: Checkpoint) -> None:
    class Full:
        """A device as Device is, with room for nothing."""

        kind = "cpu"

        @property
        def dtype(self) -> Any:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    full: Any = Full()
    with pytest.raises(torch.OutOfMemoryError):
        load(source(checkpoint("sd")), full)


@pytest.mark.parametrize("name", ["sd", "sdxl", "pix2pix", "demo"])
def test_a_preview_is_a_small_picture_at_every_step(warm: dict[str, Diffusion], demo: Diffusion, name: str) -> None:
    ctx = Recorder(previews=True)
    model, make = demo if name == "demo" else warm[name], change if name == "pix2pix" else draw
    with_previews = make(model, ctx, preview=True)
    assert len(ctx.pictures) == len(ctx.steps)
    for picture in ctx.pictures:
        assert picture.size == (64, 64)
        assert len(preview_data_url(picture)) <= 64_000
    assert same(make(model), with_previews)


def test_a_preview_is_made_only_where_it_was_asked_for(warm: dict[str, Diffusion]) -> None:
    ctx = Recorder(previews=True)
    draw(warm["sd"], ctx)
    assert ctx.pictures == []


def test_a_preview_of_a_large_picture_is_decoded_small(warm: dict[str, Diffusion]) -> None:
    pipe = warm["sd"].pipeline(DRAW, None, 2)
    picture = peek(pipe, torch.randn(2, 4, 128, 64))
    assert picture.size == (128, 256)
    file = io.BytesIO()
    picture.save(file, "PNG")
    assert file.tell() > 1000


def test_the_last_preview_of_the_demo_model_is_its_picture(demo: Diffusion) -> None:
    ctx = Recorder(previews=True)
    picture = draw(demo, ctx, preview=True, num_inference_steps=4)
    assert psnr(ctx.pictures[-1], picture) > 40
