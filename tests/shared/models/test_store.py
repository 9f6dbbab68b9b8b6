"""The models of one worker: its folders are read in order, and what is in none is downloaded once."""

import os
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from shared.errors import ModelUnavailable
from shared.models.store import Store
from shared.models.transfer import Transfer
from shared.models.wanted import wanted_files
from shared.settings import inherited
from tests.shared.media.loopback import cut_short
from tests.shared.models.folders import REMOTE, write_cached
from tests.shared.models.hub_server import HubServer, held, hub_server, refusal
from tests.shared.models.stores import MODEL, NEW, OLD, PARTS, QUANTISED, TEXT, entry, never, store, text_entry
from tests.shared.models.together import ROOT

WEIGHTS = "unet/diffusion_pytorch_model.fp16.safetensors"


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


def test_a_volume_that_is_not_mounted_is_not_made_up(tmp_path: Path) -> None:
    unmounted = Path(f"/no-such-volume-{os.getpid()}")
    blocked = tmp_path / "file"
    blocked.touch()
    usable = tmp_path / "volume" / "hub"
    assert store(blocked / "below-a-file", unmounted / "hub", usable).write_root() == usable
    assert not unmounted.exists()


def test_a_demo_model_that_does_not_exist_is_not_looked_for_on_a_hub(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="'demo/nothing' is not here"):
        store(tmp_path).ensure(entry("demo/nothing"), on_download=never)


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
    assert any(0 < moment.done < chosen for moment in told)
    assert told[-1].done == chosen


def test_what_is_on_the_volume_is_told_where_the_hub_cannot_be_reached(tmp_path: Path, served: HubServer) -> None:
    store(tmp_path, hub_url=served.url).ensure(entry())
    with pytest.raises(ModelUnavailable, match=f"ConnectError .*; on the volume: {MODEL}") as caught:
        store(tmp_path).ensure(entry("Ours/Other"))
    assert caught.value.detail == {"reason": "unreachable"}


def test_two_that_load_one_model_in_other_ways_each_get_their_own(tmp_path: Path) -> None:
    gate, arrived = threading.Event(), threading.Event()
    with hub_server() as server, ThreadPoolExecutor() as threads:
        server.add(TEXT, QUANTISED, NEW)
        server.faults["small-q4.gguf"] = [held(gate, arrived)]
        ours = store(tmp_path, hub_url=server.url)
        short = threads.submit(ours.ensure, text_entry(TEXT, "small-q4.gguf", context=64))
        assert arrived.wait(60)
        waits = threading.Event()
        long = threads.submit(
            ours.ensure, text_entry(TEXT, "small-q4.gguf", context=128), on_download=lambda moment: waits.set()
        )
        assert waits.wait(60)
        gate.set()
        assert (short.result(60).options, long.result(60).options) == ({"context": 64}, {"context": 128})
        assert server.gets == {"small-q4.gguf": 1}
