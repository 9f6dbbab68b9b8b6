"""The upscaler's recipe: what it draws, how it spoils it, and that it runs and repeats itself."""

import argparse
import stat
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from shared.models.esrgan_weights import network_of, read
from templates.demo_models.train import large_pictures, upscale
from templates.demo_models.train.large_pictures import SCALE, SIDE, Draw


@pytest.fixture
def few_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upscale, "PICTURES", 6)
    monkeypatch.setattr(upscale, "REDRAWN", 2)


def train(out: Path, resume: Path | None = None) -> None:
    threads = torch.get_num_threads()
    upscale.train(argparse.Namespace(out=out, resume=resume, seed=7, threads=threads, minutes=0, steps=2, rate=1e-3))


@pytest.mark.usefixtures("few_pictures")
def test_trains_saves_and_repeats_itself(tmp_path: Path) -> None:
    for run in ("one", "two"):
        train(tmp_path / run)
    one, two = (load_file(tmp_path / run / "model.safetensors") for run in ("one", "two"))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert stat.S_IMODE((tmp_path / "one" / "model.safetensors").stat().st_mode) == 0o644
    train(tmp_path / "more", resume=tmp_path / "one")
    assert network_of(read(tmp_path / "more" / "model.safetensors")).scale == SCALE


@pytest.mark.usefixtures("few_pictures")
def test_small_and_large_patches_show_the_same() -> None:
    """However they are turned, spoiled, or painted by the other model's autoencoder."""
    small, large = upscale.draw_batch(upscale.make_data(0), np.random.default_rng(0))
    assert (small.shape, large.shape) == ((8, 3, 24, 24), (8, 3, 96, 96))
    error = (torch.nn.functional.avg_pool2d(large, SCALE) - small).abs().mean((1, 2, 3))
    assert error.max() < 0.06
    assert (torch.nn.functional.avg_pool2d(large.flip(3), SCALE) - small).abs().mean() > 2 * error.mean()


@pytest.mark.parametrize("draw", large_pictures.KINDS)
def test_every_kind_of_picture_is_drawn_from_its_seed(draw: Draw) -> None:
    one, same, other = (draw(np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert one.shape == (SIDE, SIDE, 3)
    assert one.dtype == np.uint8
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_small_pictures_are_spoiled_differently_each_time_and_never_beyond_recognition() -> None:
    rng = np.random.default_rng(0)
    large = large_pictures.crowd(rng)
    clean = large_pictures.reduce(large).astype(int)
    errors = [np.abs(large_pictures.degrade(large, rng) - clean).mean() for _ in range(20)]
    assert len(set(errors)) > 5
    assert max(errors) < 12
