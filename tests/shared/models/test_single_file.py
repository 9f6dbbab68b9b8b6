"""Checkpoints in one file: told apart by their headers, drawing what the folder draws that they were made from."""

import json
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from handlers import image_to_image, text_to_image
from handlers.image_to_image import ImageToImageParams
from handlers.text_to_image import TextToImageParams
from shared.device import Device
from shared.errors import ModelUnavailable
from shared.models.diffusion import Diffusion, load
from shared.models.single_file import is_configuration_file, kind_of
from shared.schemas import ModelSource
from tests.shared.conftest import Checkpoint
from tests.shared.models.recorder import Recorder
from tests.shared.models.single_files import one_file, open_clip_file

CPU = Device("cpu")
PICTURE = Image.linear_gradient("L").resize((64, 64)).convert("RGB")
ASKED: dict[str, Any] = {"prompt": "a red circle", "num_inference_steps": 2, "seed": 7, "guidance_scale": 3.0}
WRITERS: dict[str, Callable[[Path, Path], Path]] = {"sd2": open_clip_file}
FOLDERS = {"sd2": "sd"}


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **named: object) -> NoReturn:
        raise AssertionError("a load asked the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def written(checkpoint: Checkpoint, tmp_path: Path, name: str) -> Path:
    """A tiny checkpoint in one file, its configuration in a folder of the same name beside it."""
    folder = checkpoint(FOLDERS.get(name, name))
    file = WRITERS.get(name, one_file)(folder, tmp_path / f"{name}.safetensors")
    shutil.copytree(folder, tmp_path / name, ignore=shutil.ignore_patterns("*.safetensors"))
    return file


def source(path: Path, **options: Any) -> ModelSource:
    return ModelSource("ours/one-file", "main", path, options)


def picture(model: Diffusion) -> Image.Image:
    ctx = Recorder()
    if "text-to-image" in model.family.classes:
        text_to_image.run(model, TextToImageParams(**ASKED, width=64, height=64), ctx)
    else:
        image_to_image.run(model, ImageToImageParams(**ASKED, image=PICTURE), ctx)
    return ctx.made[0].image


@pytest.mark.parametrize("name", ["sd", "sd2", "sdxl", "pix2pix"])
def test_draws_what_the_folder_draws(checkpoint: Checkpoint, tmp_path: Path, name: str) -> None:
    folder, file = checkpoint(FOLDERS.get(name, name)), written(checkpoint, tmp_path, name)
    alone, parted = load(source(file), CPU), load(source(folder), CPU)
    assert {n: type(p) for n, p in alone.parts.items()} == {n: type(p) for n, p in parted.parts.items()}
    assert picture(alone).tobytes() == picture(parted).tobytes()


@pytest.mark.parametrize(
    ("name", "kind", "configuration"),
    [
        ("sd", "Stable Diffusion 1", "stable-diffusion-v1-5/stable-diffusion-v1-5"),
        ("sd2", "Stable Diffusion 2", "stabilityai/stable-diffusion-2-1"),
        ("sdxl", "Stable Diffusion XL", "stabilityai/stable-diffusion-xl-base-1.0"),
        ("pix2pix", "InstructPix2Pix", "timbrooks/instruct-pix2pix"),
    ],
)
def test_tells_architectures_apart_by_the_header(
    checkpoint: Checkpoint, tmp_path: Path, name: str, kind: str, configuration: str
) -> None:
    found = kind_of(written(checkpoint, tmp_path, name))
    assert (found.name, found.configuration) == (kind, configuration)


@pytest.mark.parametrize("where", ["beside", "named"])
def test_the_configuration_may_lie_beside_the_file_or_where_options_say(
    checkpoint: Checkpoint, tmp_path: Path, where: str
) -> None:
    file = written(checkpoint, tmp_path, "sd")
    if where == "named":
        options = {"config": str((tmp_path / "sd").rename(tmp_path / "elsewhere"))}
    else:
        shutil.copytree(tmp_path / "sd", tmp_path, dirs_exist_ok=True)
        shutil.rmtree(tmp_path / "sd")
        options = {}
    assert load(source(file, **options), CPU).family.prompts == 1


@pytest.mark.parametrize("options", [{}, {"config": "missing"}])
def test_without_a_configuration_it_says_which_one_and_where_to_put_it(
    checkpoint: Checkpoint, tmp_path: Path, options: dict[str, str]
) -> None:
    file = one_file(checkpoint("sd"), tmp_path / "mine.safetensors")
    with pytest.raises(ModelUnavailable, match=r"stable-diffusion-v1-5.* into a folder named mine beside") as caught:
        load(source(file, **options), CPU)
    assert str(tmp_path) not in caught.value.message


def without(prefix: str) -> Callable[[dict[str, torch.Tensor]], None]:
    def remove(weights: dict[str, torch.Tensor]) -> None:
        for name in [name for name in weights if name.startswith(prefix)]:
            del weights[name]

    return remove


def takes(channels: int) -> Callable[[dict[str, torch.Tensor]], None]:
    def widen(weights: dict[str, torch.Tensor]) -> None:
        weights["model.diffusion_model.input_blocks.0.0.weight"] = torch.zeros(8, channels, 3, 3)

    return widen


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (without("model.diffusion_model."), "no UNet .* a LoRA or a VAE alone is no model"),
        (without("cond_stage_model."), "no text encoder"),
        (without("first_stage_model."), "no VAE"),
        (takes(9), "an inpainting model; no pipeline here runs it"),
        (takes(5), "takes 5 channels"),
    ],
)
def test_what_no_pipeline_runs_is_refused_with_the_reason(
    checkpoint: Checkpoint, tmp_path: Path, change: Callable[[dict[str, torch.Tensor]], None], reason: str
) -> None:
    file = written(checkpoint, tmp_path, "sd")
    weights = load_file(file)
    change(weights)
    save_file(weights, file)
    with pytest.raises(ModelUnavailable, match=f"'ours/one-file' .*sd.safetensors cannot be used: .*{reason}"):
        load(source(file), CPU)


@pytest.mark.parametrize("part", ["model.diffusion_model.out.", "cond_stage_model.transformer.text_model.encoder."])
def test_a_file_that_lacks_weights_is_refused(checkpoint: Checkpoint, tmp_path: Path, part: str) -> None:
    file = written(checkpoint, tmp_path, "sd")
    weights = load_file(file)
    without(part)(weights)
    save_file(weights, file)
    with pytest.raises(ModelUnavailable, match="files of 'ours/one-file' cannot be loaded"):
        load(source(file), CPU)


def test_a_file_that_is_cut_off_is_named(checkpoint: Checkpoint, tmp_path: Path) -> None:
    file = written(checkpoint, tmp_path, "sd")
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(ModelUnavailable, match=r"sd\.safetensors is damaged"):
        load(source(file), CPU)


def test_a_pickle_is_never_read(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "sprung",))

    for name in ("model.ckpt", "model.safetensors"):
        torch.save(Trap(), tmp_path / name)
        with pytest.raises(ModelUnavailable):
            load(source(tmp_path / name), CPU)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("marks", [["v_pred"], ["v_pred", "ztsnr"]])
def test_a_file_marked_as_v_prediction_is_sampled_so(
    checkpoint: Checkpoint, tmp_path: Path, marks: list[str]
) -> None:
    file = written(checkpoint, tmp_path, "sdxl")
    save_file({**load_file(file), **{mark: torch.zeros(0) for mark in marks}}, file)
    scheduler = load(source(file), CPU).parts["scheduler"]
    assert scheduler.config.prediction_type == "v_prediction"
    assert scheduler.config.rescale_betas_zero_snr is ("ztsnr" in marks)


def test_the_files_of_a_configuration_are_its_texts_and_never_weights(checkpoint: Checkpoint, tmp_path: Path) -> None:
    folder = checkpoint("sdxl")
    names = [f.relative_to(folder).as_posix() for f in folder.rglob("*") if f.is_file()]
    names += ["unet/diffusion_pytorch_model.safetensors.index.json", "sd_xl_base_1.0.safetensors", "README.md"]
    wanted = [name for name in names if is_configuration_file(name)]
    assert not any(name.endswith((".safetensors", ".index.json", ".md")) for name in wanted)
    file = one_file(folder, tmp_path / "mine.safetensors")
    for name in wanted:
        (tmp_path / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / name, tmp_path / "mine" / name)
    assert picture(load(source(file), CPU)).size == (64, 64)


def test_a_configuration_of_another_architecture_is_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    file = written(checkpoint, tmp_path, "sd")
    config = tmp_path / "sd" / "unet" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "cross_attention_dim": 32}))
    with pytest.raises(ModelUnavailable, match="files of 'ours/one-file' cannot be loaded"):
        load(source(file), CPU)
