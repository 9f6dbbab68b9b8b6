"""What is read before its device is there: as that device wants it, in memory, and moved as a whole."""

import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

import handlers
from shared.device import Device, Kind
from shared.models.store import DEMO_MODELS
from shared.schemas import ModelSource
from tests.shared.models import test_diffusion_upscale, tiny, tiny_prompted_video, tiny_video
from tests.shared.models.single_files import one_file

AHEAD = Device("cpu", bound_for="cuda")
HALF, BRAIN, SINGLE = torch.float16, torch.bfloat16, torch.float32


def demo(folder: Path) -> Path:
    return Path(shutil.copytree(DEMO_MODELS / folder.name, folder))


def in_one_file(folder: Path) -> Path:
    """With its configuration in the folder of the same name beside it."""
    return one_file(tiny.stable_diffusion(folder), folder.with_suffix(".safetensors"))


# The pipeline and the checkpoint of every kind of model, and the precisions of its numbers on a card.
MODELS: dict[str, tuple[str, Callable[[Path], Path], set[Any]]] = {
    "sd-fp16": ("text-to-image", lambda folder: tiny.stable_diffusion(folder, variant="fp16"), {HALF}),
    "one-file": ("text-to-image", in_one_file, {HALF}),
    "sdxl": ("image-to-image", tiny.stable_diffusion_xl, {HALF}),
    "svd": ("image-to-video", tiny_video.stable_video_diffusion, {HALF}),
    "ltx": ("image-to-video", tiny_prompted_video.ltx, {BRAIN}),
    "wan": ("image-to-video", tiny_prompted_video.wan_21, {BRAIN, SINGLE}),
    "x4": ("upscale", test_diffusion_upscale.checkpoint, {HALF}),
    "upscale": ("upscale", demo, {HALF}),
    "frame-interpolation": ("frame-interpolation", demo, {HALF}),
}
CLASSES = ("sdxl", "svd", "ltx", "x4", "upscale", "frame-interpolation")  # one of each
every_kind = pytest.mark.parametrize("kind", MODELS)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    torch.set_num_threads(1)  # tiny tensors: a second thread only waits for the first
    return {kind: make(tmp_path_factory.mktemp("ahead") / kind) for kind, (_, make, _) in MODELS.items()}


def load(kind: str, folder: Path, device: Device) -> Any:
    handler = handlers.get(MODELS[kind][0])
    assert handler.load
    return handler.load(ModelSource("ours/tiny", "main", folder), device)


def placed(kind: str, model: Any, device: Device) -> Any:
    to_device = handlers.get(MODELS[kind][0]).to_device
    assert to_device
    return to_device(model, device)


def tensors(model: Any) -> Iterator[tuple[str, Tensor]]:
    """All weights and buffers of its networks, by name."""
    for name, part in getattr(model, "parts", vars(model)).items():
        if isinstance(part, nn.Module):
            own = part.named_parameters(remove_duplicate=False), part.named_buffers(remove_duplicate=False)
            for inner, tensor in itertools.chain(*own):
                yield f"{name}.{inner}", tensor


@every_kind
def test_a_model_for_a_card_has_the_cards_precision_and_lies_in_no_file(folders: dict[str, Path], kind: str) -> None:
    model = load(kind, folders[kind], AHEAD)
    assert {tensor.dtype for _, tensor in tensors(model) if tensor.is_floating_point()} == MODELS[kind][2]
    assert str(folders[kind]) not in Path("/proc/self/maps").read_text()


@every_kind
def test_every_number_is_moved_and_stays_as_it_is(folders: dict[str, Path], kind: str) -> None:
    """To a device that every machine has, which keeps shapes and no numbers."""
    model = load(kind, folders[kind], AHEAD)
    before = {name: (tensor.dtype, tensor.stride()) for name, tensor in tensors(model)}
    meta = Device(cast(Kind, "meta"))
    moved = placed(kind, model, meta)
    assert {tensor.device.type for _, tensor in tensors(moved)} == {"meta"}
    assert {name: (tensor.dtype, tensor.stride()) for name, tensor in tensors(moved)} == before
    assert getattr(moved, "device", meta) == meta
    assert list(moved.loading) == ["to_device_s"]


@pytest.mark.parametrize("kind", CLASSES)
def test_what_is_read_and_placed_is_what_is_loaded_at_once(folders: dict[str, Path], kind: str) -> None:
    cpu = Device("cpu")
    model = placed(kind, load(kind, folders[kind], Device("cpu", bound_for="cpu")), cpu)
    loaded = load(kind, folders[kind], cpu)
    one, other = dict(tensors(model)), dict(tensors(loaded))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert {type(model), getattr(model, "device", cpu)} == {type(loaded), cpu}
