"""The recipe runs from nothing to a pipeline on disk, repeats itself, and goes on from a checkpoint."""

import argparse
import stat
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from templates.demo_models.train import image_to_video, video_autoencoder
from templates.demo_models.train.movies import FRAMES, KNOWN
from templates.demo_models.train.shapes import held_out_scenes

library: Any = diffusers  # it is not typed
UNET, VAE = (f"{part}/diffusion_pytorch_model.safetensors" for part in ("unet", "vae"))


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_to_video, "MOVIES", 3)
    monkeypatch.setattr(image_to_video, "BATCH", 2)
    monkeypatch.setattr(image_to_video, "SAVE_EVERY", 2)
    monkeypatch.setattr(video_autoencoder, "JUDGED", 1)


def train(out: Path, resume: Path | None = None) -> dict[str, dict[str, torch.Tensor]]:
    budgets = {f"{stage}_minutes": 0.0 for stage in ("vae", "unet", "decoder")}
    steps = {"vae_steps": 1, "unet_steps": 2, "decoder_steps": 1}
    options = {"seed": 7, "device": "cpu", "threads": torch.get_num_threads(), "unet_rate": 1e-3}
    image_to_video.train(argparse.Namespace(out=out, resume=resume, **budgets, **steps, **options))
    return {file: load_file(out / file) for file in (UNET, VAE)}


def test_trains_saves_repeats_itself_and_goes_on(tmp_path: Path) -> None:
    one, two = train(tmp_path / "one"), train(tmp_path / "two")
    assert all(torch.equal(one[file][name], two[file][name]) for file in one for name in one[file])
    assert {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.rglob("*") if file.is_file()} == {0o644}
    more = train(tmp_path / "more", resume=tmp_path / "one")
    changed = {name for name in one[UNET] if not torch.equal(one[UNET][name], more[UNET][name])}
    assert len(changed) > len(one[UNET]) / 2
    encoder = [name for name in one[VAE] if name.startswith(("encoder", "quant_conv"))]
    assert all(
        torch.equal(one[VAE][name], more[VAE][name]) for name in encoder
    )  # else latents would mean other things
    pipeline = library.DiffusionPipeline.from_pretrained(tmp_path / "more")
    told = {"width": 64, "height": 64, "num_frames": FRAMES, "num_inference_steps": 1, "max_guidance_scale": 1.0}
    clip = pipeline(Image.new("RGB", (64, 64), "red"), **told).frames[0]
    assert [frame.size for frame in clip] == [(64, 64)] * FRAMES


def test_no_held_out_scene_is_drawn_in_training() -> None:
    assert not set(KNOWN) & set(held_out_scenes())
