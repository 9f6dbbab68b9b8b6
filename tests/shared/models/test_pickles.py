"""Pickled weights: loaded where models.json allows their hash and they hold tensors only, and never otherwise."""

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from handlers import text_to_image
from handlers.text_to_image import TextToImageParams
from shared.device import Device
from shared.errors import ModelUnavailable
from shared.models.catalog import Entry
from shared.models.diffusion import load
from shared.schemas import ModelSource
from tests.shared.conftest import Checkpoint
from tests.shared.models.hub_server import HubServer, hub_server
from tests.shared.models.recorder import Recorder
from tests.shared.models.stores import store

MODEL = "Ours/Pickled"
UNET, ENCODER = "unet/diffusion_pytorch_model", "text_encoder/model"
PICKLES = {UNET: f"{UNET}.bin", ENCODER: "text_encoder/pytorch_model.bin"}
DRAWN = TextToImageParams(prompt="a circle", num_inference_steps=2, seed=7, width=64, height=64)
Write = Callable[[dict[str, torch.Tensor], Path], None]


class Trap:
    """What a pickle can do to who reads it."""

    def __init__(self, sprung: Path) -> None:
        self.sprung = sprung

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self.sprung),))


@pytest.fixture
def served(checkpoint: Checkpoint) -> Iterator[HubServer]:
    folder = checkpoint("sd")
    with hub_server() as server:
        server.add(
            MODEL, {f.relative_to(folder).as_posix(): f.read_bytes() for f in folder.rglob("*") if f.is_file()}
        )
        yield server


def put(served: HubServer, folder: Path, *parts: str, write: Write = torch.save) -> Entry:
    """Pickle these weights on the hub; the entry that allows them."""
    files = served.repos[MODEL].files
    folder.mkdir()
    for part in parts:
        safe = folder / "weights.safetensors"
        safe.write_bytes(files.pop(f"{part}.safetensors"))
        write(load_file(safe), folder / "weights.bin")
        files[PICKLES[part]] = (folder / "weights.bin").read_bytes()
    hashes = {PICKLES[part]: hashlib.sha256(files[PICKLES[part]]).hexdigest().upper() for part in parts}
    return Entry(pipeline="text-to-image", model_id=MODEL, pickles=hashes)


def drawn(source: ModelSource) -> bytes:
    ctx = Recorder()
    text_to_image.run(load(source, Device("cpu")), DRAWN, ctx)
    return ctx.made[0].image.tobytes()


@pytest.mark.parametrize("parts", [(UNET,), (UNET, ENCODER)])
def test_an_allowed_pickle_draws_what_the_safetensors_draw(
    tmp_path: Path, served: HubServer, checkpoint: Checkpoint, parts: tuple[str, ...]
) -> None:
    entry = put(served, tmp_path / "made", *parts)
    source = store(tmp_path / "volume", hub_url=served.url).ensure(entry)
    assert not list(source.path.glob("unet/*.safetensors"))
    assert drawn(source) == drawn(ModelSource("ours/safe", "main", checkpoint("sd")))


def test_a_pickle_that_changed_on_the_volume_is_refused_at_load(tmp_path: Path, served: HubServer) -> None:
    entry = put(served, tmp_path / "made", UNET)
    ours = store(tmp_path / "volume", hub_url=served.url)
    source = ours.ensure(entry)
    file = source.path / PICKLES[UNET]
    content = bytearray(file.read_bytes())
    content[-1000] ^= 1
    file.write_bytes(content)
    with pytest.raises(ModelUnavailable, match=rf"'{MODEL}' cannot be loaded: {PICKLES[UNET]} .* its sha256 differs"):
        load(ours.ensure(entry), Device("cpu"))


def test_a_pickle_that_is_not_allowed_is_refused(tmp_path: Path, served: HubServer) -> None:
    allowed = put(served, tmp_path / "made", UNET)
    ours = store(tmp_path / "volume", hub_url=served.url)
    source = ours.ensure(allowed)
    bare = allowed.model_copy(update={"pickles": {}})
    assert ours.find(bare) is None
    with pytest.raises(ModelUnavailable, match="only as pickles, which run code"):
        ours.ensure(bare)
    with pytest.raises(ModelUnavailable, match="cannot be loaded: OSError"):
        load(ModelSource(MODEL, source.revision, source.path), Device("cpu"))


def test_a_pickle_that_is_allowed_brings_no_other_in(tmp_path: Path, served: HubServer) -> None:
    source = store(tmp_path / "volume", hub_url=served.url).ensure(put(served, tmp_path / "made", UNET))
    torch.save(Trap(tmp_path / "sprung"), source.path / "unet/diffusion_pytorch_model.fp16.bin")
    with pytest.raises(ModelUnavailable, match=r"fp16\.bin is a pickle that models\.json does not allow"):
        load(source, Device("cpu"))


def test_pickles_beside_safetensors_are_never_read(tmp_path: Path, served: HubServer) -> None:
    trap = tmp_path / "trap.bin"
    torch.save(Trap(tmp_path / "sprung"), trap)
    served.repos[MODEL].files[PICKLES[UNET]] = trap.read_bytes()
    sha256 = hashlib.sha256(trap.read_bytes()).hexdigest()
    entry = Entry(pipeline="text-to-image", model_id=MODEL, pickles={PICKLES[UNET]: sha256})
    assert drawn(store(tmp_path / "volume", hub_url=served.url).ensure(entry))
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_would_run_code_is_refused_though_its_hash_is_allowed(
    tmp_path: Path, served: HubServer, zipped: bool
) -> None:
    def trapped(weights: dict[str, torch.Tensor], file: Path) -> None:
        content = {**weights, "more": Trap(tmp_path / "sprung")}
        torch.save(content, file, _use_new_zipfile_serialization=zipped)

    source = store(tmp_path / "volume", hub_url=served.url).ensure(
        put(served, tmp_path / "made", UNET, write=trapped)
    )
    with pytest.raises(ModelUnavailable, match=rf"'{MODEL}' cannot be loaded: {PICKLES[UNET]} .* would run code"):
        load(source, Device("cpu"))
    assert not (tmp_path / "sprung").exists()
    torch.load(source.path / PICKLES[UNET], weights_only=False)
    assert (tmp_path / "sprung").exists()  # so it would have
