"""The schedulers that a job may choose, and the previews of their steps."""

import io
import shutil
from pathlib import Path

import pytest
import torch

from shared.errors import InvalidInput
from shared.media.image import preview_data_url
from shared.models.diffusion import SCHEDULERS, Diffusion, load, peek
from shared.models.store import DEMO_MODELS
from tests.shared.conftest import Checkpoint
from tests.shared.models.drawing import CPU, DRAW, change, draw, edit, psnr, same, source
from tests.shared.models.recorder import Recorder

DEMO = DEMO_MODELS / "text-to-image"


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
