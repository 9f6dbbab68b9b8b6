"""One file of a repository, named by its full id: downloaded alone, found again, and told apart from its siblings."""

from pathlib import Path

import pytest

from shared.device import Device
from shared.errors import ModelUnavailable
from shared.models.catalog import Catalog, Entry
from shared.models.pool import Pool
from shared.schemas import ModelSource
from tests.shared.models.folders import safetensors
from tests.shared.models.hub_server import HubServer
from tests.shared.models.stores import MODEL, NEW, PARTS, QUANTISED, TEXT, never, store

FOUR, EIGHT = f"{TEXT}/small-q4.gguf", f"{TEXT}/small-q8.gguf"
ANY = Catalog([], allow_any=True)


@pytest.fixture(autouse=True)
def text(served: HubServer) -> None:
    served.add(TEXT, {**QUANTISED, "extra/adapter.safetensors": safetensors()}, NEW)


def asked(model_id: str, pipeline: str = "text-generation") -> Entry:
    return ANY.resolve(pipeline, model_id)


def test_only_the_file_is_downloaded_and_then_found(tmp_path: Path, served: HubServer) -> None:
    ours = store(tmp_path, hub_url=served.url)
    source = ours.ensure(asked(FOUR))
    assert (source.model_id, source.revision) == (FOUR, NEW)
    assert source.path.read_bytes() == QUANTISED["small-q4.gguf"]
    assert ours.ensure(asked(FOUR), on_download=never) == source
    listed = Entry(pipeline="text-generation", model_id=TEXT, files=("small-q4.gguf",))
    assert ours.ensure(listed, on_download=never) == source
    assert served.gets == {"small-q4.gguf": 1}


def test_all_parts_of_a_file_come(tmp_path: Path, served: HubServer) -> None:
    source = store(tmp_path, hub_url=served.url).ensure(asked(f"{TEXT}/{PARTS[0]}"))
    assert source.path.name == PARTS[0]
    assert served.gets == dict.fromkeys(PARTS, 1)


def test_two_files_of_one_commit_are_two_models(tmp_path: Path, served: HubServer) -> None:
    ours = store(tmp_path, hub_url=served.url)
    four, eight = (ours.ensure(asked(model_id)) for model_id in (FOUR, EIGHT))
    assert four.revision == eight.revision

    def load(source: ModelSource, device: Device) -> str:
        return source.path.name

    pool = Pool(lambda: Device("cpu"), capacity=2)
    with pool.acquire(load, four) as one, pool.acquire(load, eight) as other:
        assert (one, other) == ("small-q4.gguf", "small-q8.gguf")


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("small-q5.gguf", r"has no small-q5\.gguf; it has: small-q4\.gguf, small-q8\.gguf"),
        ("adapter.safetensors", r"has no adapter\.safetensors; it has: extra/adapter\.safetensors$"),
    ],
)
def test_a_file_that_the_repository_has_not_is_refused_naming_those_it_has(
    tmp_path: Path, served: HubServer, name: str, complaint: str
) -> None:
    with pytest.raises(ModelUnavailable, match=complaint):
        store(tmp_path, hub_url=served.url).ensure(asked(f"{TEXT}/{name}", "text-to-image"))
    assert not served.gets


@pytest.mark.parametrize(
    ("model_id", "pipeline", "complaint"),
    [
        (FOUR, "text-to-image", f"'{FOUR}' is a GGUF, which 'text-to-image' cannot read"),
        ("Ours/One-GGUF", "image-to-image", "'Ours/One-GGUF' is a GGUF, which 'image-to-image' cannot read"),
        (f"{TEXT}/extra/adapter.safetensors", "text-generation", "adapter.safetensors' has no GGUF"),
        (MODEL, "text-generation", f"'{MODEL}' has no GGUF"),
    ],
)
def test_what_the_pipeline_cannot_read_is_refused_before_the_download(
    tmp_path: Path, served: HubServer, model_id: str, pipeline: str, complaint: str
) -> None:
    served.add("Ours/One-GGUF", {"small-q4.gguf": QUANTISED["small-q4.gguf"]}, NEW)
    ours = store(tmp_path, hub_url=served.url)
    for ask in (ours.ensure, ours.check):
        with pytest.raises(ModelUnavailable, match=complaint) as caught:
            ask(asked(model_id, pipeline))
        assert caught.value.detail == {"reason": "format"}
    assert not served.gets
