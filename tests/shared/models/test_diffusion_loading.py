"""How checkpoints are loaded, and which are refused."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from shared.device import Device
from shared.errors import ModelUnavailable
from shared.models import readahead, volumes
from shared.models.diffusion import FAMILIES, Diffusion, load, variant
from tests.shared.conftest import Checkpoint
from tests.shared.models import tiny
from tests.shared.models.drawing import CPU, DRAW, draw, same, source


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
    *((part, damage) for part in ("unet", "vae", "text_encoder") for damage in (cut, blank, Path.unlink, reshape)),
    *(("unet", rename), ("vae", rename)),  # transformers draws missing weights at random, and does not say so
]


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
    class Full(Device):
        """With room for nothing."""

        @property
        def dtype(self) -> Any:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    with pytest.raises(torch.OutOfMemoryError):
        load(source(checkpoint("sd")), Full("cpu"))
