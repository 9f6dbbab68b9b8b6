"""Other architectures go to spandrel where it is installed; here a small module stands in its place."""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from shared.device import Device
from shared.errors import ModelUnavailable
from shared.models import upscaler
from shared.schemas import ModelSource

# What is used of spandrel 0.4: a loader, and a description that calls the network on one picture.
STAND_IN = """
import torch

class ImageModelDescriptor:
    supports_half, scale, input_channels, output_channels = False, 3, 3, 3

    def __init__(self, state):
        self.model = torch.nn.Linear(1, 1)
        self.input_channels = int(state["channels"][0])

    def __call__(self, picture):
        assert picture.shape[0] == 1
        return picture.repeat_interleave(3, 2).repeat_interleave(3, 3)

class ModelLoader:
    def load_from_state_dict(self, state):
        if "channels" not in state:
            raise ValueError("unsupported model")
        return ImageModelDescriptor(state)
"""


@pytest.fixture
def spandrel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "library").mkdir()
    (tmp_path / "library" / "spandrel.py").write_text(STAND_IN)
    monkeypatch.syspath_prepend(tmp_path / "library")
    yield
    sys.modules.pop("spandrel", None)


def load(folder: Path, **state: torch.Tensor) -> upscaler.Upscaler:
    save_file(state, folder / "network.safetensors")
    return upscaler.load(ModelSource("some/model", "main", folder), Device("cpu"))


def test_without_it_the_architectures_that_are_built_in_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "spandrel", None)
    with pytest.raises(ModelUnavailable) as caught:
        load(tmp_path, layer=torch.ones(2))
    assert "network.safetensors is of an architecture that is not built in" in caught.value.message
    assert "RRDBNet" in caught.value.message
    assert "SRVGGNetCompact" in caught.value.message
    assert "pip install 'pilotlight[spandrel]'" in caught.value.message


@pytest.mark.usefixtures("spandrel")
def test_with_it_other_networks_enlarge_pictures_too(tmp_path: Path) -> None:
    model = load(tmp_path, channels=torch.tensor([3.0]))
    assert model.scale == 3
    frames = np.random.default_rng(0).integers(0, 256, (2, 40, 50, 3), np.uint8)
    made = model.begin(scale=None, denoise_strength=None, tile=32).frames(list(frames), lambda done, total: None)
    assert np.array_equal(np.stack(list(made)), frames.repeat(3, 1).repeat(3, 2))


@pytest.mark.usefixtures("spandrel")
def test_what_it_does_not_know_either_is_said(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="that spandrel does not know either"):
        load(tmp_path, layer=torch.ones(2))
    with pytest.raises(ModelUnavailable, match="does not make a picture in colours of one alone"):
        load(tmp_path, channels=torch.tensor([1.0]))
