"""Models on disk and from a hub: found offline first, taken only when whole, downloaded once."""

import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shared.errors import Cancelled, ModelUnavailable
from shared.job import CancelToken
from shared.models.cached import folder_name
from shared.models.catalog import Entry
from shared.models.folders import HASHED_WHOLE
from shared.models.lease import Timing, Waiter, read_holder
from shared.models.store import Store
from shared.models.transfer import Transfer
from shared.models.wanted import gguf_files, parts_of, wanted_files
from shared.schemas import ModelSource
from shared.settings import inherited
from tests.shared.media.loopback import cut_short
from tests.shared.models.folders import FILES, REMOTE, write_cached, write_files
from tests.shared.models.hub_server import HubServer, git_sha1, held, hub_server, refusal, slow
from tests.shared.models.tiny_gguf import ARCHITECTURE, header
from tests.shared.models.together import answers, locks, store_in, worker

MODEL = "Ours/Small-Model"
OLD, NEW, NEWEST = "1" * 40, "2" * 40, "3" * 40
ROOT = Path(__file__).parents[3]
NOWHERE = "http://127.0.0.1:9"  # discard: nobody listens


def entry(model_id: str = MODEL, revision: str = "main") -> Entry:
    return Entry(pipeline="text-to-image", model_id=model_id, revision=revision)


def store(*roots: Path, hub_url: str = NOWHERE) -> Store:
    """A store that reads these folders first, and downloads into the first one."""
    return Store(roots[0], volumes=roots[1:], hub_url=hub_url)


def without(name: str) -> dict[str, bytes]:
    return {n: data for n, data in FILES.items() if n != name}


def never(moment: Transfer) -> None:
    raise AssertionError("nothing was to be downloaded")


@pytest.fixture
def served() -> Iterator[HubServer]:
    with hub_server() as server:
        server.add(MODEL, REMOTE, NEW)
        yield server


def test_roots_are_read_in_their_order(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    there = write_cached(second, MODEL, OLD)
    assert store(first, second).ensure(entry(), on_download=never).path == there
    here = write_cached(first, MODEL, NEW)
    assert store(first, second).ensure(entry(), on_download=never).path == here


def test_model_dir_comes_before_runpods_cache_the_containers_and_the_hubs_own(tmp_path: Path) -> None:
    from huggingface_hub.constants import HF_HUB_CACHE

    runpod, container = Path("/runpod-volume/huggingface-cache/hub"), Path("/models")
    assert Store(tmp_path).roots() == [tmp_path, runpod, container, Path(HF_HUB_CACHE)]
    assert Store().roots() == [runpod, container, Path(HF_HUB_CACHE)]


def test_finds_what_runpod_cached_under_a_lower_cased_name(tmp_path: Path) -> None:
    there = write_cached(tmp_path, MODEL.lower(), OLD)
    assert store(tmp_path / "empty", tmp_path).ensure(entry(), on_download=never).path == there


def test_a_volume_that_is_not_mounted_is_not_made_up(tmp_path: Path) -> None:
    unmounted = Path(f"/no-such-volume-{os.getpid()}")
    blocked = tmp_path / "file"
    blocked.touch()
    usable = tmp_path / "volume" / "hub"
    assert store(blocked / "below-a-file", unmounted / "hub", usable).write_root() == usable
    assert not unmounted.exists()


def test_main_is_what_refs_main_names(tmp_path: Path) -> None:
    write_cached(tmp_path, MODEL, OLD, ref="main")
    write_cached(tmp_path, MODEL, NEW)
    assert store(tmp_path).ensure(entry()).revision == OLD


def test_main_without_a_ref_is_the_newest_snapshot(tmp_path: Path) -> None:
    for age_s, commit in ((300, OLD), (100, NEWEST), (200, NEW)):
        os.utime(write_cached(tmp_path, MODEL, commit), (1e9 - age_s, 1e9 - age_s))
    assert store(tmp_path).ensure(entry()).revision == NEWEST


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


def test_a_folder_is_a_model_with_a_revision_of_its_content(tmp_path: Path) -> None:
    ours, copy = write_files(tmp_path / "ours"), write_files(tmp_path / "copy")
    source = store(tmp_path).ensure(entry(str(ours)))
    assert source.path == ours
    assert source.revision.startswith("sha256-")
    assert store(tmp_path).ensure(entry(str(copy))).revision == source.revision


@pytest.mark.parametrize("name", ["unet/diffusion_pytorch_model.safetensors", "tokenizer/vocab.json"])
def test_a_folder_with_another_content_has_another_revision(tmp_path: Path, name: str) -> None:
    ours = write_files(tmp_path / "ours")
    before = store(tmp_path).ensure(entry(str(ours))).revision
    (ours / name).write_bytes(b'{"different": 1}')
    assert store(tmp_path).ensure(entry(str(ours))).revision != before


def test_a_folder_that_is_not_whole_is_refused_without_its_path(tmp_path: Path) -> None:
    ours = write_files(tmp_path / "ours", without("unet/config.json"))
    (ours / "unet/diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(ModelUnavailable, match="is not here, or is not whole"):
        store(tmp_path).ensure(entry(str(ours)), on_download=never)


def test_a_demo_model_that_does_not_exist_is_not_looked_for_on_a_hub(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="'demo/nothing' is not here"):
        store(tmp_path).ensure(entry("demo/nothing"), on_download=never)


def weights(folder: str, stem: str) -> list[str]:
    """A model's folder as Stability's repositories have it, every format included."""
    names = ["config.json", f"{stem}.safetensors", f"{stem}.fp16.safetensors", "model.onnx", "openvino_model.bin"]
    return [f"{folder}/{name}" for name in [*names, "model.onnx_data", "openvino_model.xml", "flax_model.msgpack"]]


TOKENIZER = ["merges.txt", "special_tokens_map.json", "tokenizer_config.json", "vocab.json"]
SCHEDULER = ["scheduler/scheduler_config.json"]
UNET, ENCODER = "diffusion_pytorch_model", "model"
SDXL_TURBO = [
    ".gitattributes", "LICENSE.md", "README.md", "model_index.json", "output_tile.jpg",
    "sd_xl_turbo_1.0.safetensors", "sd_xl_turbo_1.0_fp16.safetensors",
    *SCHEDULER, *weights("text_encoder", ENCODER), *weights("text_encoder_2", ENCODER), *weights("unet", UNET),
    *[f"{folder}/{name}" for folder in ("tokenizer", "tokenizer_2") for name in TOKENIZER],
    "vae/config.json", "vae/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.fp16.safetensors",
    "vae_decoder/config.json", "vae_decoder/model.onnx", "vae_encoder/config.json", "vae_encoder/model.onnx",
]  # fmt: skip
SD_1_5 = [
    ".gitattributes", "README.md", "model_index.json", "v1-inference.yaml",
    "v1-5-pruned.ckpt", "v1-5-pruned.safetensors", "v1-5-pruned-emaonly.ckpt", "v1-5-pruned-emaonly.safetensors",
    "feature_extractor/preprocessor_config.json", *SCHEDULER, *[f"tokenizer/{name}" for name in TOKENIZER],
    *[f"{folder}/{stem}{kind}" for folder, stem in
      (("safety_checker", "model"), ("text_encoder", "model"), ("unet", UNET), ("vae", UNET))
      for kind in (".bin", ".fp16.bin", ".safetensors", ".fp16.safetensors")],
    "safety_checker/config.json", "text_encoder/config.json", "unet/config.json", "vae/config.json",
    "unet/diffusion_pytorch_model.non_ema.bin", "unet/diffusion_pytorch_model.non_ema.safetensors",
]  # fmt: skip
PIX2PIX = [
    "model_index.json", "instruct-pix2pix-00-22000.ckpt", "instruct-pix2pix-00-22000.safetensors", *SCHEDULER,
    *[f"tokenizer/{name}" for name in TOKENIZER], "feature_extractor/preprocessor_config.json",
    "safety_checker/config.json", "safety_checker/model.safetensors", "safety_checker/pytorch_model.bin",
    "text_encoder/config.json", "text_encoder/model.safetensors", "text_encoder/pytorch_model.bin",
    "unet/config.json", f"unet/{UNET}.safetensors", f"unet/{UNET}.bin",
    "vae/config.json", f"vae/{UNET}.safetensors", f"vae/{UNET}.bin",
]  # fmt: skip


def test_half_precision_is_preferred_one_copy_of_each_model() -> None:
    chosen = [n for n in wanted_files(SDXL_TURBO) if n.endswith(".safetensors")]
    assert sorted(chosen) == [
        "text_encoder/model.fp16.safetensors",
        "text_encoder_2/model.fp16.safetensors",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "vae/diffusion_pytorch_model.fp16.safetensors",
    ]


def test_full_precision_is_taken_where_there_is_no_half() -> None:
    chosen = [n for n in wanted_files(PIX2PIX) if n.endswith(".safetensors")]
    assert sorted(chosen) == [
        "safety_checker/model.safetensors",
        "text_encoder/model.safetensors",
        f"unet/{UNET}.safetensors",
        f"vae/{UNET}.safetensors",
    ]


def test_full_precision_is_taken_for_the_one_folder_that_has_no_half() -> None:
    names = [n for n in SD_1_5 if n != "vae/diffusion_pytorch_model.fp16.safetensors"]
    chosen = wanted_files(names)
    assert "vae/diffusion_pytorch_model.safetensors" in chosen
    assert "unet/diffusion_pytorch_model.fp16.safetensors" in chosen


def test_all_shards_of_one_precision_are_taken() -> None:
    shards = [f"unet/{UNET}{half}-0000{n}-of-00002.safetensors" for half in ("", ".fp16") for n in (1, 2)]
    assert wanted_files(shards) == [f"unet/{UNET}.fp16-0000{n}-of-00002.safetensors" for n in (1, 2)]


@pytest.mark.parametrize("names", [SDXL_TURBO, SD_1_5, PIX2PIX], ids=["sdxl-turbo", "sd-1.5", "pix2pix"])
def test_every_small_file_that_diffusers_reads_is_taken(names: list[str]) -> None:
    assert {n for n in names if n.endswith((".json", ".txt"))} <= set(wanted_files(names))


@pytest.mark.parametrize("names", [SDXL_TURBO, SD_1_5, PIX2PIX], ids=["sdxl-turbo", "sd-1.5", "pix2pix"])
def test_no_pickle_no_onnx_no_single_file_checkpoint_is_taken(names: list[str]) -> None:
    chosen = wanted_files(names)
    assert len(chosen) == len(set(chosen))
    assert {n.rpartition(".")[2] for n in chosen} == {"json", "txt", "safetensors"}
    assert not [n for n in chosen if "/" not in n and n != "model_index.json"]
    assert not [n for n in chosen if "non_ema" in n]


def test_downloads_once_and_then_asks_nobody(tmp_path: Path, served: HubServer) -> None:
    announced: list[Transfer] = []
    ours = store(tmp_path, hub_url=served.url)
    source = ours.ensure(entry(), on_download=announced.append)
    assert announced[0] == Transfer(0, 0)
    assert (source.model_id, source.revision) == (MODEL, NEW)
    taken = {f.relative_to(source.path).as_posix(): f.read_bytes() for f in source.path.rglob("*") if f.is_file()}
    assert taken == {name: REMOTE[name] for name in wanted_files(list(REMOTE))}
    asked = len(served.seen)
    again = ours.ensure(entry(), on_download=never)
    assert (again, len(served.seen)) == (source, asked)


def test_a_commit_is_asked_of_the_hub(tmp_path: Path, served: HubServer) -> None:
    assert store(tmp_path, hub_url=served.url).ensure(entry(revision=NEW)).revision == NEW
    assert served.seen[0].path.endswith(f"/revision/{NEW}")


def test_the_token_goes_with_every_request_to_the_hub_and_to_no_other_host(tmp_path: Path, served: HubServer) -> None:
    Store(tmp_path, volumes=(), token="hf_good", hub_url=served.url).ensure(entry())
    assert served.tokens_seen == {"hf_good"}
    assert served.tokens_at_the_store == {None}  # the large files' host is another, and gets no token


def test_a_download_that_broke_off_is_not_taken_and_is_finished_the_next_time(
    tmp_path: Path, served: HubServer
) -> None:
    ours = store(tmp_path, hub_url=served.url)
    vocabulary = f"/{MODEL}/resolve/{NEW}/tokenizer/vocab.json"
    served.instead[vocabulary] = refusal(403, "")
    with pytest.raises(ModelUnavailable, match="cannot be fetched"):
        ours.ensure(entry())
    assert ours.find(entry()) is None
    del served.instead[vocabulary]
    source = ours.ensure(entry())
    assert (source.path / "tokenizer/vocab.json").read_bytes() == REMOTE["tokenizer/vocab.json"]
    assert set(served.gets.values()) == {1}


def test_a_repository_without_safetensors_is_refused(tmp_path: Path) -> None:
    files = {n: d for n, d in REMOTE.items() if not n.endswith(".safetensors")}
    with hub_server() as server, pytest.raises(ModelUnavailable, match="only as pickles, which run code"):
        server.add(MODEL, files)
        store(tmp_path, hub_url=server.url).ensure(entry())


@pytest.mark.parametrize(
    ("status", "code", "complaint"),
    [
        (404, "RepoNotFound", f"the hub has no '{MODEL}'"),
        (401, "", f"the hub has no '{MODEL}', or it is private and needs HF_TOKEN"),
        (401, "GatedRepo", f"'{MODEL}' is gated: accept its terms at http.*/{MODEL} and set HF_TOKEN"),
        (403, "GatedRepo", f"'{MODEL}' is gated"),
        (404, "RevisionNotFound", f"'{MODEL}' has no revision 'main'"),
        (500, "", "cannot be fetched"),
    ],
)
def test_a_refusal_of_the_hub_is_said_in_words(
    tmp_path: Path, served: HubServer, status: int, code: str, complaint: str
) -> None:
    served.instead[f"/api/models/{MODEL}/revision/main"] = refusal(status, code)
    ours = store(tmp_path, hub_url=served.url)
    with pytest.raises(ModelUnavailable, match=complaint):
        ours.ensure(entry())
    with pytest.raises(ModelUnavailable, match=complaint):
        ours.check(entry())


def test_a_hub_that_nobody_reaches_is_said_in_words(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(ModelUnavailable, match=f"'{MODEL}' cannot be fetched: ConnectError"):
            store(tmp_path, hub_url=url).ensure(entry())


def test_an_answer_that_breaks_off_is_said_in_words(tmp_path: Path, served: HubServer) -> None:
    served.instead[f"/api/models/{MODEL}/revision/main"] = cut_short
    with pytest.raises(ModelUnavailable, match=f"'{MODEL}'"):
        store(tmp_path, hub_url=served.url).ensure(entry())


def test_the_hub_is_asked_whether_it_has_a_model_without_downloading_it(tmp_path: Path, served: HubServer) -> None:
    store(tmp_path, hub_url=served.url).check(entry())
    assert [seen.path for seen in served.seen] == [f"/api/models/{MODEL}/revision/main"]


def test_offline_asks_nobody_and_says_what_to_do(tmp_path: Path, served: HubServer) -> None:
    """In a process of its own: huggingface_hub reads HF_HUB_OFFLINE when it is imported."""
    code = """
import sys
from pathlib import Path
from shared.errors import ModelUnavailable
from shared.models.catalog import Entry
from shared.models.store import Store
try:
    Store(Path(sys.argv[1]), hub_url=sys.argv[2]).ensure(Entry(pipeline="text-to-image", model_id=sys.argv[3]))
except ModelUnavailable as exc:
    print(exc.message)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), served.url, MODEL],
        env=inherited(HF_HUB_OFFLINE="1"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == f"'{MODEL}' is not on the volume, and HF_HUB_OFFLINE is set"
    assert served.seen == []


TEXT = "Ours/Text-GGUF"
PARTS = [f"big-0000{n}-of-00002.gguf" for n in (1, 2)]
QUANTISED: dict[str, bytes] = {
    "README.md": b"# Text",
    "config.json": b"{}",
    "small-q4.gguf": header(ARCHITECTURE) + b"four",
    "small-q8.gguf": header(ARCHITECTURE) + b"eight",
    **{name: header(ARCHITECTURE) + name.encode() for name in PARTS},
}


def text_entry(model_id: str = TEXT, *files: str, revision: str = "main", **options: int) -> Entry:
    return Entry(
        pipeline="text-generation", model_id=model_id, revision=revision, files=tuple(files), options=dict(options)
    )


def test_the_parts_of_a_file_are_known_by_the_name_of_any() -> None:
    assert parts_of("a/small.gguf") == ["a/small.gguf"]
    assert parts_of(PARTS[0]) == parts_of(PARTS[1]) == PARTS
    assert parts_of("best-of-breed.gguf") == ["best-of-breed.gguf"]


@pytest.mark.parametrize(
    ("files", "names", "taken"),
    [
        (["small-q4.gguf"], list(QUANTISED), ["small-q4.gguf"]),
        ([PARTS[0]], list(QUANTISED), PARTS),
        ([], ["README.md", "only.gguf"], ["only.gguf"]),
        ([], ["README.md", *PARTS], PARTS),
        (["q8/model.gguf"], ["q4/model.gguf", "q8/model.gguf"], ["q8/model.gguf"]),
        ([], SDXL_TURBO, []),
        ([], [*SDXL_TURBO, "unet.gguf"], []),
        ([], ["README.md"], []),
    ],
)
def test_one_gguf_file_is_taken_in_all_its_parts(files: list[str], names: list[str], taken: list[str]) -> None:
    assert gguf_files(TEXT, files, names) == taken


@pytest.mark.parametrize(
    ("files", "names", "complaint"),
    [
        (
            [],
            list(QUANTISED),
            "name one in GGML_FILE; it has: small-q4.gguf, small-q8.gguf, big-00001-of-00002.gguf$",
        ),
        (["small-q5.gguf"], list(QUANTISED), "has no small-q5.gguf; it has: small-q4.gguf"),
        (["small.gguf"], ["README.md"], "has no small.gguf; it has: no GGUF file"),
    ],
)
def test_a_choice_that_is_missing_or_not_there_is_refused(files: list[str], names: list[str], complaint: str) -> None:
    with pytest.raises(ModelUnavailable, match=complaint):
        gguf_files(TEXT, files, names)


@pytest.mark.parametrize(("file", "taken"), [("small-q4.gguf", ["small-q4.gguf"]), (PARTS[0], PARTS)])
def test_only_the_file_that_is_named_is_downloaded(tmp_path: Path, file: str, taken: list[str]) -> None:
    with hub_server() as server:
        server.add(TEXT, QUANTISED, NEW)
        ours = store(tmp_path, hub_url=server.url)
        source = ours.ensure(text_entry(TEXT, file, context=64))
        assert (source.path.name, source.revision, source.options) == (file, NEW, {"context": 64})
        assert sorted(f.name for f in source.path.parent.iterdir()) == taken
        assert source.path.read_bytes() == QUANTISED[file]
        asked = len(server.seen)
        assert ours.ensure(text_entry(TEXT, file, context=64), on_download=never) == source
        assert len(server.seen) == asked
        ours.check(text_entry(TEXT, "small-q8.gguf"))
        assert not [seen for seen in server.seen if "q8" in seen.path]


def test_a_second_file_of_a_repository_is_downloaded_beside_the_first(tmp_path: Path) -> None:
    with hub_server() as server:
        server.add(TEXT, QUANTISED, NEW)
        ours = store(tmp_path, hub_url=server.url)
        first, second = (ours.ensure(text_entry(TEXT, name)).path for name in ("small-q4.gguf", "small-q8.gguf"))
    assert first.parent == second.parent
    assert second.read_bytes() == QUANTISED["small-q8.gguf"]


def test_a_file_that_the_repository_has_not_is_refused_before_any_download(tmp_path: Path) -> None:
    with hub_server() as server:
        server.add(TEXT, QUANTISED, NEW)
        ours = store(tmp_path, hub_url=server.url)
        for ask in (ours.ensure, ours.check):
            with pytest.raises(ModelUnavailable, match=r"has no other\.gguf; it has: small-q4.gguf"):
                ask(text_entry(TEXT, "other.gguf"))
        assert not [seen for seen in server.seen if "/resolve/" in seen.path]


def test_a_part_that_is_missing_is_not_taken_for_a_model(tmp_path: Path) -> None:
    write_cached(tmp_path, TEXT, OLD, {PARTS[0]: b"GGUF"})
    assert store(tmp_path).find(text_entry(TEXT, PARTS[0])) is None
    assert store(tmp_path).find(text_entry(TEXT)) is None
    ours = write_files(tmp_path / "ours", {PARTS[0]: b"GGUF"})
    for model_id in (ours, ours / PARTS[0]):
        assert store(tmp_path).find(text_entry(str(model_id))) is None


def test_a_gguf_file_is_a_model_of_its_own_or_by_its_folder(tmp_path: Path) -> None:
    ours = write_files(tmp_path / "ours", {"a.gguf": b"GGUF a"})
    alone = store(tmp_path).ensure(text_entry(str(ours / "a.gguf"), slots=2))
    folder = store(tmp_path).ensure(text_entry(str(ours), slots=2))
    named = store(tmp_path).ensure(text_entry(str(ours), "a.gguf"))
    assert (alone.path, folder.path, named.path) == (ours / "a.gguf", ours, ours / "a.gguf")
    assert alone.revision == folder.revision == named.revision
    assert alone.options == folder.options == {"slots": 2}


def test_the_revision_of_a_model_in_parts_is_of_all_of_them(tmp_path: Path) -> None:
    ours = write_files(tmp_path / "ours", dict.fromkeys(PARTS, b"GGUF"))
    before = store(tmp_path).ensure(text_entry(str(ours / PARTS[0]))).revision
    (ours / PARTS[1]).write_bytes(b"GGUF, another")
    assert store(tmp_path).ensure(text_entry(str(ours / PARTS[0]))).revision != before


def test_a_large_file_is_sampled_for_its_revision(tmp_path: Path) -> None:
    """A file of holes: as long as a large model, and no longer on the disk than what is written to it."""
    file = tmp_path / "large.gguf"
    revisions = []
    for place in (None, 0, HASHED_WHOLE):
        with file.open("wb") as large:
            large.truncate(HASHED_WHOLE + 1)
            if place is not None:
                large.seek(place)
                large.write(b"x")
        revisions.append(store(tmp_path).ensure(text_entry(str(file))).revision)
    assert all(revision.startswith("sampled-") for revision in revisions)
    assert len(set(revisions)) == 3


WEIGHTS = "unet/diffusion_pytorch_model.fp16.safetensors"


def test_progress_is_told_in_bytes_while_the_model_arrives(tmp_path: Path, served: HubServer) -> None:
    gate, told = threading.Event(), list[Transfer]()
    served.faults[WEIGHTS] = [held(gate)]

    def tell(moment: Transfer) -> None:
        told.append(moment)
        if moment.done:
            gate.set()

    store(tmp_path, hub_url=served.url).ensure(entry(), on_download=tell)
    chosen = sum(len(REMOTE[name]) for name in wanted_files(list(REMOTE)))
    assert told[0] == Transfer(0, 0)
    assert told[-1].total == chosen
    assert 0 < told[-1].done < chosen


def in_thread(work: Callable[[], object]) -> tuple[threading.Thread, list[object]]:
    ended: list[object] = []

    def run() -> None:
        try:
            ended.append(work())
        except BaseException as exc:  # noqa: BLE001 looked at by the test
            ended.append(exc)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, ended


def test_a_cancelled_job_leaves_at_once_and_the_download_goes_on_for_the_others(
    tmp_path: Path, served: HubServer
) -> None:
    gate, arrived, cancel = threading.Event(), threading.Event(), CancelToken()
    served.faults[WEIGHTS] = [held(gate, arrived)]
    ours = store(tmp_path, hub_url=served.url)
    stays, got = in_thread(lambda: ours.ensure(entry()))
    leaves, left = in_thread(lambda: ours.ensure(entry(), check=cancel.check))
    assert arrived.wait(30)
    cancel.cancel("enough")
    leaves.join()
    assert isinstance(left[0], Cancelled)
    assert not got
    gate.set()
    stays.join()
    assert isinstance(got[0], ModelSource)
    assert set(served.gets.values()) == {1}


def test_when_the_last_job_is_cancelled_the_download_ends_and_whole_files_are_kept(
    tmp_path: Path, served: HubServer
) -> None:
    gate, arrived, cancel = threading.Event(), threading.Event(), CancelToken()
    served.faults[WEIGHTS] = [held(gate, arrived)]
    ours = store(tmp_path, hub_url=served.url)
    leaves, left = in_thread(lambda: ours.ensure(entry(), check=cancel.check))
    assert arrived.wait(30)
    cancel.cancel("enough")
    leaves.join()
    assert isinstance(left[0], Cancelled)
    gate.set()
    ours.close()  # waits for it
    assert locks(tmp_path, MODEL) == []
    assert ours.find(entry()) is None
    assert store(tmp_path, hub_url=served.url).ensure(entry()).revision == NEW
    assert served.gets == {n: 2 if n == WEIGHTS else 1 for n in wanted_files(list(REMOTE))}


def test_a_flipped_byte_is_found_by_hash_named_and_repaired(tmp_path: Path, served: HubServer) -> None:
    ours = store(tmp_path, hub_url=served.url)
    weights = ours.ensure(entry()).path / WEIGHTS
    (model,) = [m for m in ours.stored() if m.model_id == MODEL]
    assert ours.verify(model) == []
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert ours.find(entry()) is not None  # at load sizes are compared, no more
    damaged = ours.verify(model)
    assert [str(d) for d in damaged] == [f"{WEIGHTS} has the right size and the wrong sha256"]
    assert weights.exists()
    served.gets.clear()
    assert ours.repair(entry(), model, damaged).revision == NEW
    assert served.gets == {WEIGHTS: 1}
    assert ours.verify(model) == []


def test_missing_truncated_and_unreadable_files_are_named_by_verify(tmp_path: Path, served: HubServer) -> None:
    ours = store(tmp_path, hub_url=served.url)
    path = ours.ensure(entry()).path
    (model,) = [m for m in ours.stored() if m.model_id == MODEL]
    (path / "unet/config.json").unlink()
    os.truncate(path / WEIGHTS, 7)
    assert {d.name: d.what for d in ours.verify(model)} == {
        "unet/config.json": "is missing",
        WEIGHTS: f"has 7 bytes and should have {len(REMOTE[WEIGHTS])}",
    }
    (model,) = [m for m in ours.stored() if m.model_id == MODEL]
    assert not model.complete


def test_another_tools_model_is_verified_by_the_names_of_its_blobs(tmp_path: Path) -> None:
    snapshot = write_cached(tmp_path, MODEL, OLD)
    blobs = snapshot.parent.parent / "blobs"
    weights = "unet/diffusion_pytorch_model.safetensors"
    for name, hashed in (
        (weights, hashlib.sha256(FILES[weights]).hexdigest()),
        ("unet/config.json", git_sha1(b"{}")),
    ):
        (snapshot / name).unlink()
        (blobs / hashed).write_bytes(FILES[name])
        (snapshot / name).symlink_to(blobs / hashed)
    ours = store(tmp_path)
    (model,) = [m for m in ours.stored() if m.model_id == MODEL]
    assert (model.revision, model.complete, model.ours, model.last_used) == (OLD, True, False, None)
    assert model.bytes == sum(len(data) for data in FILES.values())
    assert ours.verify(model) == []
    (snapshot / weights).resolve().write_bytes(b"weightz")
    (snapshot / "unet/config.json").resolve().write_bytes(b"[]")
    assert {d.name for d in ours.verify(model)} == {weights, "unet/config.json"}
    with pytest.raises(ModelUnavailable, match="downloaded by another tool"):
        ours.repair(entry(), model, ours.verify(model))


def test_what_is_stored_is_told_with_all_that_a_table_needs(tmp_path: Path, served: HubServer) -> None:
    ours = Store(tmp_path, volumes=(), hub_url=served.url, pinned=[(MODEL, NEW)])
    source = ours.ensure(entry())
    (model,) = [m for m in ours.stored() if m.model_id == MODEL]
    assert (model.revision, model.path, model.pinned, model.complete, model.in_use, model.ours) == (
        NEW, source.path, True, True, False, True,
    )  # fmt: skip
    assert model.bytes == sum(len(REMOTE[name]) for name in wanted_files(list(REMOTE)))
    assert model.last_used == pytest.approx(time.time(), abs=3600)
    with ours.hold(entry(), source):
        assert [m.in_use for m in ours.stored() if m.model_id == MODEL] == [True]


def test_what_is_on_the_volume_is_told_where_the_hub_cannot_be_reached(tmp_path: Path, served: HubServer) -> None:
    store(tmp_path, hub_url=served.url).ensure(entry())
    with pytest.raises(ModelUnavailable, match=f"ConnectError .*; on the volume: {MODEL}") as caught:
        store(tmp_path).ensure(entry("Ours/Other"))
    assert caught.value.detail == {"reason": "unreachable"}


PICKLED = {n: d for n, d in REMOTE.items() if not n.endswith(".safetensors")}
PICKLE = "unet/diffusion_pytorch_model.bin"


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


def test_processes_that_ask_at_once_download_once(tmp_path: Path, served: HubServer) -> None:
    served.always = slow(0.2)
    workers = [worker(tmp_path, served.url, MODEL) for _ in range(5)]
    said = answers(workers)
    assert said == [f"{NEW} {len(REMOTE['model_index.json'])}"] * 5
    assert served.gets == dict.fromkeys(wanted_files(list(REMOTE)), 1)
    assert len([seen for seen in served.seen if seen.path.startswith("/api/")]) == 1
    assert locks(tmp_path, MODEL) == []


def test_when_the_one_that_downloads_is_killed_another_takes_over(tmp_path: Path, served: HubServer) -> None:
    gate, arrived = threading.Event(), threading.Event()
    served.faults[WEIGHTS] = [held(gate, arrived)]
    workers = [worker(tmp_path, served.url, MODEL) for _ in range(3)]
    assert arrived.wait(60)
    holder = read_holder(tmp_path / folder_name(MODEL))
    assert holder is not None
    (victim,) = [process for process in workers if process.pid == holder.pid]
    victim.kill()
    victim.communicate()
    gate.set()
    said = answers([process for process in workers if process is not victim])
    assert [line.split()[0] for line in said] == [NEW, NEW]
    assert served.gets == {n: 2 if n == WEIGHTS else 1 for n in wanted_files(list(REMOTE))}
    assert locks(tmp_path, MODEL) == []


def test_the_lease_of_one_killed_after_publishing_is_given_back(tmp_path: Path, served: HubServer) -> None:
    ours = store_in(tmp_path, served.url)
    source = ours.ensure(entry())
    assert Waiter(source.path.parent.parent, Timing(0.05, 0.2)).attempt()  # never a heartbeat
    assert locks(tmp_path, MODEL)
    quick = Store(tmp_path, volumes=(), timing=Timing(0.05, 0.2))
    assert quick.ensure(entry()) == source  # at once, whoever has the lease
    while locks(tmp_path, MODEL):  # ends, or the test's time does
        time.sleep(0.01)


def test_a_worker_on_a_volume_that_can_only_be_read_finds_and_holds(tmp_path: Path, served: HubServer) -> None:
    source = store(tmp_path, hub_url=served.url).ensure(entry())
    script = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from shared.models.store import Store
from tests.shared.models.together import entry_of
store = Store(Path({str(tmp_path)!r}), volumes=())
source = store.ensure(entry_of({MODEL!r}))
with store.hold(entry_of({MODEL!r}), source):
    store.loaded([source])
    print(source.revision)
"""
    mount = f'mount --bind -o ro {tmp_path} {tmp_path} && exec "$0" "$@"'
    if subprocess.run(["unshare", "-rm", "sh", "-c", mount, "true"], capture_output=True).returncode:
        pytest.skip("no volume can be mounted here")
    command = ["unshare", "-rm", "sh", "-c", mount, sys.executable, "-c", script]
    done = subprocess.run(command, cwd=ROOT, env=inherited(), capture_output=True, text=True)
    assert done.stdout.strip() == source.revision, done.stderr
