"""Models in a Hugging Face cache: which snapshot stands for a revision, and which is whole."""

import json
import os
from pathlib import Path

import pytest

from tests.shared.models.folders import FILES, REMOTE, without, write_cached
from tests.shared.models.hub_server import HubServer
from tests.shared.models.stores import MODEL, NEW, NEWEST, OLD, entry, never, store


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
