"""The recipe runs from nothing to a pipeline on disk, and repeats itself."""

import argparse
import stat
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from safetensors.torch import load_file

from templates.demo_models.train import autoencoder, shapes, text_to_image
from templates.demo_models.train.budget import Budget
from templates.demo_models.train.text_to_image import make_tokenizer

STEPS = 2


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_to_image, "PICTURES", 32)
    monkeypatch.setattr(text_to_image, "BATCH", 8)
    monkeypatch.setattr(autoencoder, "BATCH", 4)


def train(out: Path, resume: Path | None = None) -> None:
    text_to_image.train(
        argparse.Namespace(
            out=out,
            resume=resume,
            seed=7,
            device="cpu",
            threads=torch.get_num_threads(),
            vae_minutes=0,
            unet_minutes=0,
            vae_steps=STEPS,
            unet_steps=STEPS,
            unet_rate=1e-3,
        )
    )


def test_a_budget_of_steps_ends_after_them() -> None:
    assert list(Budget(minutes=0, steps=4)) == [(0, 0.0), (1, 0.25), (2, 0.5), (3, 0.75)]


def test_a_budget_of_no_minutes_takes_no_step() -> None:
    assert list(Budget(minutes=1e-9)) == []


def test_every_word_of_a_caption_is_one_token() -> None:
    tokenizer = make_tokenizer()
    for scene in shapes.held_out_scenes():
        words = shapes.caption(scene).split()
        assert [token.removesuffix("</w>") for token in tokenizer.tokenize(" ".join(words))] == words


def test_unknown_words_become_letters_and_keep_the_rest() -> None:
    tokens = make_tokenizer().tokenize("Zebra RED")
    assert tokens == ["z", "e", "b", "r", "a</w>", "red</w>"]


def test_trains_saves_and_repeats_itself(tmp_path: Path) -> None:
    train(tmp_path / "one")
    train(tmp_path / "two")
    for file in ("unet/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.safetensors"):
        one, two = (load_file(tmp_path / run / file) for run in ("one", "two"))
        assert all(torch.equal(one[name], two[name]) for name in one)
    modes = {stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "one").rglob("*") if file.is_file()}
    assert modes == {0o644}
    train(tmp_path / "more", resume=tmp_path / "one")
    library: Any = diffusers  # it is not typed
    pipeline = library.DiffusionPipeline.from_pretrained(tmp_path / "more")
    image = pipeline("a red circle", width=64, height=64, num_inference_steps=1).images[0]
    assert image.size == (64, 64)
