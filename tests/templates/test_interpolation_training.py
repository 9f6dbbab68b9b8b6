"""The recipe runs from nothing to a network on disk, and repeats itself."""

import argparse
import stat
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from shared.models.film import FILM
from shared.models.film_weights import load
from shared.schemas import ModelSource
from templates.demo_models.train import frame_interpolation as recipe
from templates.demo_models.train import shapes
from templates.demo_models.train.budget import Budget
from tests.shared.models.films import SMALL


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe, "SIZES", SMALL)
    monkeypatch.setattr(recipe, "BATCH", 4)
    monkeypatch.setattr(recipe, "SAVE_EVERY", 2)


def train(out: Path, resume: Path | None = None, steps: int = 3) -> FILM:
    options = {"seed": 7, "device": "cpu", "threads": torch.get_num_threads(), "minutes": 0, "rate": 1e-3}
    recipe.train(argparse.Namespace(out=out, resume=resume, steps=steps, small_until=0.5, **options))
    return load(ModelSource("demo", "local", out))


def test_trains_saves_and_repeats_itself(tmp_path: Path) -> None:
    first, second = train(tmp_path / "one"), train(tmp_path / "two")
    assert first.sizes == SMALL
    weights = load_file(tmp_path / "one" / "model.safetensors")
    assert all(torch.equal(weight, second.state_dict()[name]) for name, weight in weights.items())
    assert {weight.dtype for weight in weights.values()} == {torch.float16}
    assert {stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "one").iterdir()} == {0o644}


def test_goes_on_from_a_checkpoint(tmp_path: Path) -> None:
    before = train(tmp_path / "one").state_dict()
    after = train(tmp_path / "two", resume=tmp_path / "one", steps=1).state_dict()
    change = max(float((after[name].float() - before[name].float()).abs().max()) for name in before)
    assert 0 < change < 0.05


def test_saves_on_the_way(tmp_path: Path) -> None:
    recipe.train_film(FILM(SMALL), Budget(0, 2), np.random.default_rng(0), 1e-3, tmp_path, small_until=0)
    assert (tmp_path / "model.safetensors").exists()


def test_no_held_out_scene_is_drawn_in_training() -> None:
    assert not set(recipe.KNOWN) & set(shapes.held_out_scenes())


def test_a_batch_is_three_pictures_of_each_motion() -> None:
    batch = recipe.make_batch(np.random.default_rng(0), count=3, side=32)
    assert {picture.shape[:3] for picture in batch} == {(3, 3, 32)}
    assert all(picture.min() >= 0 and picture.max() <= 1 for picture in batch)


def test_training_makes_the_error_smaller(tmp_path: Path) -> None:
    torch.manual_seed(0)
    film, batch = FILM(SMALL), recipe.make_batch(np.random.default_rng(0), count=4, side=32)
    half, (first, middle, last) = torch.full((4, 1), 0.5), batch
    before = (film(first, last, half) - middle).abs().mean()
    trained = recipe.train_film(film, Budget(0, 40), np.random.default_rng(0), 5e-3, tmp_path, small_until=1)
    assert (trained(first, last, half) - middle).abs().mean() < 0.7 * before


def test_the_sizes_are_written_beside_the_weights(tmp_path: Path) -> None:
    sizes = replace(SMALL, pyramid_levels=5)
    recipe.save(FILM(sizes), tmp_path)
    assert load(ModelSource("demo", "local", tmp_path)).sizes == sizes
    assert asdict(sizes)["pyramid_levels"] == 5
