"""The Stable Diffusion x4 upscaler, on a tiny one with random weights: everything but the pictures is real."""

import json
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import transformers
from PIL import Image

from shared.device import Device
from shared.errors import Cancelled, InvalidInput, ModelUnavailable
from shared.models import diffusion_upscale
from shared.models.diffusion_upscale import MOST_PIXELS, DiffusionUpscaler, is_one, load
from shared.schemas import ModelSource
from tests.shared.models import tiny
from tests.shared.models.recorder import Recorder

models: Any = diffusers  # it is not typed
encoders: Any = transformers
CPU = Device("cpu")
PICTURE = Image.linear_gradient("L").resize((22, 13)).convert("RGB")
TOLD = {"prompt": "a cat", "negative_prompt": "", "guidance_scale": 5.0, "noise_level": 20, "num_inference_steps": 2}


def checkpoint(folder: Path) -> Path:
    """As stabilityai/stable-diffusion-x4-upscaler: pixels of the picture beside a latent that the VAE enlarges."""
    models.StableDiffusionUpscalePipeline(
        vae=models.AutoencoderKL(
            block_out_channels=(4, 4, 8),
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            norm_num_groups=2,
            latent_channels=4,
            scaling_factor=0.08333,
        ),
        text_encoder=encoders.CLIPTextModel(encoders.CLIPTextConfig(**tiny.TEXT)),
        tokenizer=tiny._tokenizer(),
        unet=tiny._unet(7, num_class_embeds=1000),
        low_res_scheduler=models.DDPMScheduler(),
        scheduler=models.DDIMScheduler(**tiny.NOISE, prediction_type="v_prediction"),
        max_noise_level=350,
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> DiffusionUpscaler:
    return load(ModelSource("some/upscaler", "main", checkpoint(tmp_path_factory.mktemp("x4"))), CPU)


def enlarge(
    model: DiffusionUpscaler, image: Image.Image = PICTURE, scale: float | None = None, seed: int = 3, **told: Any
) -> tuple[Image.Image, Recorder]:
    ctx = Recorder(stop_at=told.pop("stop_at", None))
    made, nsfw = model.enlarge(image, seed, ctx, scale=scale, safety_check=True, **{**TOLD, **told})
    assert not nsfw
    return made, ctx


@pytest.mark.parametrize("size", [(16, 16), (22, 13), (1, 1)])
def test_every_size_comes_out_four_times_as_large(model: DiffusionUpscaler, size: tuple[int, int]) -> None:
    made, _ = enlarge(model, PICTURE.resize(size))
    assert (made.mode, made.size) == ("RGB", (4 * size[0], 4 * size[1]))


@pytest.mark.parametrize(("scale", "size"), [(2, (44, 26)), (3.5, (77, 46))])
def test_other_factors_are_reached_by_resampling(
    model: DiffusionUpscaler, scale: float, size: tuple[int, int]
) -> None:
    assert enlarge(model, scale=scale)[0].size == size


def test_every_step_is_reported_and_can_be_stopped(model: DiffusionUpscaler) -> None:
    assert enlarge(model, num_inference_steps=3)[1].steps == [(1, 3), (2, 3), (3, 3)]
    with pytest.raises(Cancelled):
        enlarge(model, num_inference_steps=50, stop_at=2)


def test_the_same_seed_draws_the_same_picture_and_another_another(model: DiffusionUpscaler) -> None:
    one, same, other = (np.asarray(enlarge(model, seed=seed)[0]) for seed in (3, 3, 4))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("told", [{"prompt": "a dog"}, {"negative_prompt": "a dog"}, {"noise_level": 200}])
def test_what_is_told_changes_the_picture(model: DiffusionUpscaler, told: dict[str, Any]) -> None:
    assert not np.array_equal(np.asarray(enlarge(model)[0]), np.asarray(enlarge(model, **told)[0]))


def test_transparency_is_kept(model: DiffusionUpscaler) -> None:
    image = PICTURE.convert("RGBA")
    image.paste((0, 0, 0, 0), (0, 0, 11, 13))
    alpha = enlarge(model, image)[0].getchannel("A")
    assert (alpha.size, alpha.getpixel((4, 20)), alpha.getpixel((80, 20))) == ((88, 52), 0, 255)


def test_large_pictures_are_decoded_in_tiles(model: DiffusionUpscaler, monkeypatch: pytest.MonkeyPatch) -> None:
    at_once, _ = enlarge(model)
    monkeypatch.setattr(diffusion_upscale, "UNTILED_PIXELS", 100)
    tiled, _ = enlarge(model)
    assert tiled.size == at_once.size
    assert model.parts["vae"].use_tiling
    monkeypatch.undo()
    assert np.array_equal(np.asarray(enlarge(model)[0]), np.asarray(at_once))


def test_what_it_cannot_do_is_refused_in_words(model: DiffusionUpscaler) -> None:
    with pytest.raises(InvalidInput, match=r"takes at most 1,048,576: send a smaller one"):
        enlarge(model, Image.new("RGB", (MOST_PIXELS // 8 + 1, 8)))
    with pytest.raises(InvalidInput, match="noise_level is 351; 'some/upscaler' knows levels up to 350"):
        enlarge(model, noise_level=351)


def test_only_a_folder_with_an_index_is_one_and_it_must_be_an_upscalers(tmp_path: Path) -> None:
    source = ModelSource("some/model", "main", tmp_path)
    assert not is_one(source)
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))
    assert is_one(source)
    with pytest.raises(ModelUnavailable, match="'some/model' is a StableDiffusionPipeline; what enlarges"):
        load(source, CPU)


def test_damaged_weights_are_named(tmp_path: Path) -> None:
    file = next((checkpoint(tmp_path) / "unet").glob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(ModelUnavailable, match=r"unet/diffusion_pytorch_model\.safetensors is damaged"):
        load(ModelSource("some/upscaler", "main", tmp_path), CPU)
