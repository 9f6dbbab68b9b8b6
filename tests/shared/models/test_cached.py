"""Models in a Hugging Face cache: which snapshot stands for a revision, and which is whole."""

import json
import os
from pathlib import Path

import pytest

from shared.models.cached import why_not
from tests.shared.models.folders import FILES, REMOTE, without, write_cached
from tests.shared.models.hub_server import HubServer
from tests.shared.models.stores import (
    MODEL,
    NEW,
    NEWEST,
    OLD,
    PARTS,
    QUANTISED,
    TEXT,
    entry,
    never,
    store,
    text_entry,
)


def test_finds_what_runpod_cached_under_a_lower_cased_name(tmp_path: Path) -> None:
    there = write_cached(tmp_path, MODEL.lower(), OLD)
    assert store(tmp_path / "empty", tmp_path).ensure(entry(), on_download=never).path == there


def test_main_is_what_refs_main_names(tmp_path: Path) -> None:
    write_cached(tmp_path, MODEL, OLD, ref="main")
    write_cached(tmp_path, MODEL, NEW)
    assert store(tmp_path).ensure(entry()).revision == OLD


def test_main_without_a_ref_is_the_newest_snapshot(tmp_path: Path) -> None:
    for age_s, commit in ((300, OLD), (100, NEWEST), (200, NEW)):
        os.utime(write_cached(tmp_path, MODEL, commit), (1e9 - age_s, 1e9 - age_s))
    assert store(tmp_path).ensure(entry()).revision == NEWEST


def test_main_is_not_an_old_commit_that_was_asked_for_by_name(tmp_path: Path, served: HubServer) -> None:
    ours = store(tmp_path, hub_url=served.url)
    served.add(MODEL, REMOTE, OLD)
    assert ours.ensure(entry(revision=OLD)).revision == OLD
    served.add(MODEL, REMOTE, NEW)
    assert ours.find(entry()) is None
    assert ours.ensure(entry()).revision == NEW


def test_main_passes_over_a_snapshot_that_is_not_whole(tmp_path: Path) -> None:
    write_cached(tmp_path, MODEL, OLD, without("unet/config.json"), ref="main")
    write_cached(tmp_path, MODEL, NEW)
    assert store(tmp_path).ensure(entry()).revision == NEW


def test_a_commit_is_taken_exactly(tmp_path: Path) -> None:
    write_cached(tmp_path, MODEL, OLD)
    write_cached(tmp_path, MODEL, NEW, ref="main")
    source = store(tmp_path).ensure(entry(revision=OLD), on_download=never)
    assert (source.revision, source.path.name) == (OLD, OLD)
    assert store(tmp_path).find(entry(revision=NEWEST)) is None


def test_a_branch_is_taken_by_its_ref_only(tmp_path: Path) -> None:
    write_cached(tmp_path, MODEL, OLD, ref="fast")
    assert store(tmp_path).ensure(entry(revision="fast")).revision == OLD
    assert store(tmp_path).find(entry(revision="slow")) is None


@pytest.mark.parametrize("name", [n for n in FILES if not n.startswith("tokenizer/")])
def test_a_snapshot_without_a_file_that_it_needs_is_not_taken(tmp_path: Path, name: str) -> None:
    write_cached(tmp_path, MODEL, OLD, without(name))
    assert store(tmp_path).find(entry()) is None


def test_a_snapshot_without_one_of_its_parts_is_not_taken(tmp_path: Path) -> None:
    write_cached(tmp_path, MODEL, OLD, {n: d for n, d in FILES.items() if not n.startswith("tokenizer/")})
    assert store(tmp_path).find(entry()) is None


def test_a_snapshot_with_a_dangling_link_is_not_taken(tmp_path: Path) -> None:
    (write_cached(tmp_path, MODEL, OLD) / "tokenizer/vocab.json").resolve().unlink()
    assert store(tmp_path).find(entry()) is None


def test_a_snapshot_with_a_broken_index_is_not_taken(tmp_path: Path) -> None:
    write_cached(tmp_path, MODEL, OLD, {**FILES, "model_index.json": b'{"unet": ["diff'})
    assert store(tmp_path).find(entry()) is None


def test_a_snapshot_with_pickled_weights_only_is_not_taken(tmp_path: Path) -> None:
    files = {**without("unet/diffusion_pytorch_model.safetensors"), "unet/diffusion_pytorch_model.bin": b"a pickle"}
    write_cached(tmp_path, MODEL, OLD, files)
    assert store(tmp_path).find(entry()) is None


@pytest.mark.parametrize("precision", ["", ".fp16"])
def test_a_sharded_model_needs_every_shard(tmp_path: Path, precision: str) -> None:
    shards = [f"diffusion_pytorch_model{precision}-0000{n}-of-00002.safetensors" for n in (1, 2)]
    shard_list = json.dumps({"weight_map": dict(zip("ab", shards, strict=True))}).encode()
    other = json.dumps({"weight_map": {"a": "not-downloaded-00001-of-00001.safetensors"}}).encode()
    files = without("unet/diffusion_pytorch_model.safetensors") | {
        f"unet/diffusion_pytorch_model.safetensors.index{precision}.json": shard_list,
        "unet/diffusion_pytorch_model.safetensors.index.bf16.json": other,
        f"unet/{shards[0]}": b"weights",
    }
    write_cached(tmp_path / "half", MODEL, OLD, files)
    write_cached(tmp_path / "whole", MODEL, OLD, {**files, f"unet/{shards[1]}": b"weights"})
    assert store(tmp_path / "half").find(entry()) is None
    assert store(tmp_path / "whole").find(entry()) is not None


def test_a_damaged_file_is_in_nobody_elses_way_and_mended_for_who_wants_it(tmp_path: Path, served: HubServer) -> None:
    served.add(TEXT, QUANTISED, NEW)
    ours = store(tmp_path, hub_url=served.url)
    four, eight, parts = (text_entry(TEXT, name) for name in ("small-q4.gguf", "small-q8.gguf", PARTS[0]))
    sources = [ours.ensure(each) for each in (four, eight, parts)]
    for name in ("small-q8.gguf", PARTS[1]):
        os.truncate(sources[0].path.with_name(name), 5)
    assert [ours.find(each) for each in (four, eight, parts)] == [sources[0], None, None]
    served.gets.clear()
    assert [ours.ensure(each) for each in (eight, parts, four)] == [sources[1], sources[2], sources[0]]
    assert served.gets == {"small-q8.gguf": 1, PARTS[1]: 1}


def test_why_a_model_cannot_be_used_is_said_of_its_own_files(tmp_path: Path, served: HubServer) -> None:
    served.add(TEXT, QUANTISED, NEW)
    ours = store(tmp_path, hub_url=served.url)
    ours.ensure(text_entry(TEXT, "small-q8.gguf"))
    os.truncate(ours.ensure(text_entry(TEXT, "small-q4.gguf")).path, 5)
    assert why_not(tmp_path, text_entry(TEXT, "small-q4.gguf")).startswith("small-q4.gguf has 5 bytes")
    assert why_not(tmp_path, text_entry(TEXT, "small-q8.gguf")) == ""


def test_a_file_of_our_folder_that_nobody_has_checked_is_not_taken(tmp_path: Path, served: HubServer) -> None:
    served.add(TEXT, QUANTISED, NEW)
    ours = store(tmp_path, hub_url=served.url)
    four, eight = text_entry(TEXT, "small-q4.gguf"), text_entry(TEXT, "small-q8.gguf")
    ours.ensure(four).path.with_name("small-q8.gguf").write_bytes(b"whatever")
    assert ours.find(eight) is None
    assert ours.ensure(eight).path.read_bytes() == QUANTISED["small-q8.gguf"]


def test_a_checkpoint_in_one_file_that_is_damaged_is_not_in_the_way_of_the_one_in_parts(
    tmp_path: Path, served: HubServer
) -> None:
    ours = store(tmp_path, hub_url=served.url)
    single = entry().model_copy(update={"pipeline": "any", "files": ("small.safetensors",)})
    os.truncate(ours.ensure(single).path, 5)
    source = ours.ensure(entry())
    assert (ours.find(entry()), ours.find(single)) == (source, None)
    os.truncate(source.path / "unet/config.json", 1)
    assert ours.find(entry()) is None
