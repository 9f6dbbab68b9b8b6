"""Weights that a hub offers only as pickles: refused, except where models.json names their hash."""

import hashlib
from pathlib import Path

import pytest

from shared.errors import ModelUnavailable
from shared.models.catalog import Entry
from tests.shared.models.folders import REMOTE
from tests.shared.models.hub_server import HubServer, hub_server
from tests.shared.models.stores import MODEL, entry, never, store

PICKLED = {n: d for n, d in REMOTE.items() if not n.endswith(".safetensors")}
PICKLE = "unet/diffusion_pytorch_model.bin"


def test_a_repository_without_safetensors_is_refused(tmp_path: Path) -> None:
    with hub_server() as server, pytest.raises(ModelUnavailable, match="only as pickles, which run code"):
        server.add(MODEL, PICKLED)
        store(tmp_path, hub_url=server.url).ensure(entry())


def test_a_repository_of_pickles_is_refused_with_the_reason(tmp_path: Path, served: HubServer) -> None:
    served.add("Ours/Pickled", PICKLED)
    ours = store(tmp_path, hub_url=served.url)
    for ask in (ours.ensure, ours.check):
        with pytest.raises(ModelUnavailable, match=f"offers {PICKLE} only as pickles, which run code") as caught:
            ask(entry("Ours/Pickled"))
        assert caught.value.detail == {"reason": "pickles"}
    assert not served.gets


def test_a_component_that_is_only_pickled_is_refused(tmp_path: Path, served: HubServer) -> None:
    more = {"vae/config.json": b"{}", "vae/diffusion_pytorch_model.bin": b"p", "vae/openvino_model.bin": b"no pickle"}
    served.add("Ours/Pickled", {**REMOTE, **more})
    with pytest.raises(ModelUnavailable, match=r"offers vae/diffusion_pytorch_model\.bin only as pickles"):
        store(tmp_path, hub_url=served.url).ensure(entry("Ours/Pickled"))


def test_a_pickle_is_taken_where_models_json_names_its_hash(tmp_path: Path, served: HubServer) -> None:
    served.add("Ours/Pickled", PICKLED)
    sha256 = hashlib.sha256(PICKLED[PICKLE]).hexdigest()
    allowed = entry("Ours/Pickled").model_copy(update={"pickles": {PICKLE: sha256.upper()}})
    ours = store(tmp_path, hub_url=served.url)
    source = ours.ensure(allowed)
    assert (source.path / PICKLE).read_bytes() == PICKLED[PICKLE]
    assert ours.ensure(allowed, on_download=never) == source
    assert ours.find(entry("Ours/Pickled")) is None  # another entry, which does not allow it


def test_another_pickle_than_the_allowed_one_is_refused(tmp_path: Path, served: HubServer) -> None:
    served.add("Ours/Pickled", PICKLED)
    wrong = entry("Ours/Pickled").model_copy(update={"pickles": {PICKLE: "0" * 64}})
    with pytest.raises(ModelUnavailable, match="its sha256 differs"):
        store(tmp_path, hub_url=served.url).ensure(wrong)
    assert not served.gets


def test_a_pickle_in_one_file_is_used_only_as_long_as_its_hash_is_allowed(tmp_path: Path, served: HubServer) -> None:
    served.add("Ours/Pickled", {"m.pth": b"a pickle"})
    sha256 = hashlib.sha256(b"a pickle").hexdigest()
    allowed = Entry(pipeline="upscale", model_id="Ours/Pickled", files=("m.pth",), pickles={"m.pth": sha256})
    ours = store(tmp_path, hub_url=served.url)
    source = ours.ensure(allowed)
    assert ours.ensure(allowed, on_download=never) == source
    for pickles in ({}, {"m.pth": "0" * 64}):
        other = allowed.model_copy(update={"pickles": pickles})
        assert ours.find(other) is None
        with pytest.raises(ModelUnavailable) as caught:
            ours.ensure(other)
        assert caught.value.detail == {"reason": "pickles"}
