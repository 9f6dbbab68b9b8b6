"""From the hub to a published snapshot: what broke off is adopted, what is damaged fetched again, and named."""

import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.errors import ModelUnavailable
from shared.models import incoming
from shared.models.cached import folder_name
from shared.models.catalog import Entry
from shared.models.download import Download
from shared.models.hub import Hub
from shared.models.lease import Lease, LeaseLost, Timing, Waiter
from shared.models.published import marker_path, read_marker
from shared.models.readers import Readers
from shared.models.space import Space
from shared.models.store import Store
from shared.models.transfer import Meter
from shared.models.wanted import wanted
from tests.shared.models.folders import FILES, REMOTE, safetensors, write_cached, write_files
from tests.shared.models.hub_server import HubServer, corrupt, held, hub_server
from tests.shared.models.tiny_gguf import ARCHITECTURE, header

MODEL = "Ours/Small-Model"
COMMIT = "2" * 40
WEIGHTS = "unet/diffusion_pytorch_model.fp16.safetensors"
CHOSEN = sorted({n for n in FILES if n.endswith(".json")} | {WEIGHTS})
ENTRY = Entry(pipeline="text-to-image", model_id=MODEL)


@pytest.fixture
def served() -> Iterator[HubServer]:
    with hub_server() as server:
        server.add(MODEL, REMOTE, COMMIT)
        yield server


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return tmp_path / folder_name(MODEL)


def store(root: Path, served: HubServer) -> Store:
    return Store(root, volumes=(), hub_url=served.url)


def names(folder: Path) -> list[str]:
    return sorted(f.relative_to(folder).as_posix() for f in folder.rglob("*") if not f.is_dir())


def test_what_is_published_are_real_files_a_ref_and_a_marker(tmp_path: Path, served: HubServer, repo: Path) -> None:
    source = store(tmp_path, served).ensure(ENTRY)
    assert source.path == repo / "snapshots" / COMMIT
    assert names(source.path) == CHOSEN
    assert not [f for f in source.path.rglob("*") if f.is_symlink()]
    assert (repo / "refs/main").read_text() == COMMIT
    marker = read_marker(repo, COMMIT)
    assert marker is not None
    assert {n: (r.size, len(r.sha256)) for n, r in marker.files.items()} == {n: (len(REMOTE[n]), 64) for n in CHOSEN}
    assert (marker.model_id, marker.shared) == (MODEL, False)
    assert names(repo) == sorted(
        [f".published-{COMMIT}.json", f".used-{COMMIT}", "refs/main", *(f"snapshots/{COMMIT}/{n}" for n in CHOSEN)]
    )


@pytest.mark.parametrize("name", [WEIGHTS, "unet/config.json"])
def test_a_file_that_arrives_damaged_is_fetched_again(tmp_path: Path, served: HubServer, name: str) -> None:
    served.faults[name] = [corrupt]
    source = store(tmp_path, served).ensure(ENTRY)
    assert (source.path / name).read_bytes() == REMOTE[name]
    assert served.gets == {n: 2 if n == name else 1 for n in CHOSEN}


def test_a_file_that_always_arrives_damaged_is_named_and_the_others_are_kept(
    tmp_path: Path, served: HubServer, repo: Path
) -> None:
    served.faults[WEIGHTS] = [corrupt] * 3
    ours = store(tmp_path, served)
    with pytest.raises(ModelUnavailable, match=f"arrived damaged 3 times: {WEIGHTS} has the right size") as caught:
        ours.ensure(ENTRY)
    assert caught.value.detail == {"reason": "damaged", "file": WEIGHTS}
    assert ours.find(ENTRY) is None
    assert not marker_path(repo, COMMIT).exists()
    ours.ensure(ENTRY)
    assert served.gets == {n: 4 if n == WEIGHTS else 1 for n in CHOSEN}


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"no header at all, but long enough", "cannot be read: .* is damaged"),
        (safetensors(64)[:-1], "cannot be read"),
    ],
)
def test_a_header_that_cannot_be_read_is_found_before_torch_sees_it(
    tmp_path: Path, served: HubServer, data: bytes, complaint: str
) -> None:
    served.repos[MODEL].files[WEIGHTS] = data
    with pytest.raises(ModelUnavailable, match=f"damaged file on the hub: {WEIGHTS} {complaint}"):
        store(tmp_path, served).ensure(ENTRY)


def test_a_gguf_header_that_cannot_be_read_is_found_before_llama_cpp_sees_it(tmp_path: Path) -> None:
    with hub_server() as server:
        server.add(MODEL, {"bad.gguf": b"GGML", "good.gguf": header(ARCHITECTURE)})
        ours = store(tmp_path, server)
        with pytest.raises(ModelUnavailable, match=r"bad\.gguf cannot be read: .*not a GGUF file"):
            ours.ensure(Entry(pipeline="text-generation", model_id=MODEL, files=("bad.gguf",)))
        assert ours.ensure(Entry(pipeline="text-generation", model_id=MODEL, files=("good.gguf",))).path.is_file()


def test_whole_files_of_a_download_that_broke_off_are_kept(tmp_path: Path, served: HubServer, repo: Path) -> None:
    flipped = bytearray(REMOTE["unet/config.json"])
    flipped[0] ^= 1
    dead = {
        "model_index.json": REMOTE["model_index.json"],
        WEIGHTS: REMOTE[WEIGHTS],
        "unet/config.json": bytes(flipped),
        "tokenizer/vocab.json": REMOTE["tokenizer/vocab.json"][:-1],
        "of-another-commit.json": b"{}",
        ".cache/huggingface/download/x.incomplete": b"half",
    }
    write_files(repo / ".incoming" / "of-the-dead", dead)
    source = store(tmp_path, served).ensure(ENTRY)
    assert names(source.path) == CHOSEN
    assert served.gets == {n: 1 for n in CHOSEN if n not in ("model_index.json", WEIGHTS)}
    assert not (repo / ".incoming").exists()


def test_a_truncated_file_is_found_at_load_and_it_alone_is_fetched_again(
    tmp_path: Path, served: HubServer, repo: Path
) -> None:
    ours = store(tmp_path, served)
    weights = ours.ensure(ENTRY).path / WEIGHTS
    os.truncate(weights, 100)
    assert ours.find(ENTRY) is None
    served.gets.clear()
    assert ours.ensure(ENTRY).path / WEIGHTS == weights
    assert weights.read_bytes() == REMOTE[WEIGHTS]
    assert served.gets == {WEIGHTS: 1}
    assert read_marker(repo, COMMIT) is not None
    assert not (repo / ".incoming").exists()


def test_a_truncated_file_is_named_where_the_hub_cannot_be_reached(tmp_path: Path, served: HubServer) -> None:
    os.truncate(store(tmp_path, served).ensure(ENTRY).path / WEIGHTS, 100)
    away = Store(tmp_path, volumes=(), hub_url="http://127.0.0.1:9")
    whole = f"{len(REMOTE[WEIGHTS])}"
    with pytest.raises(ModelUnavailable, match=f"on the volume it is damaged: {WEIGHTS} has 100 bytes .* {whole}"):
        away.ensure(ENTRY)


def test_a_marker_without_its_snapshot_is_no_model(tmp_path: Path, served: HubServer, repo: Path) -> None:
    """As a process leaves it that is killed between the two writes of a publication."""
    ours = store(tmp_path, served)
    snapshot = ours.ensure(ENTRY).path
    snapshot.rename(repo / "elsewhere")
    assert ours.find(ENTRY) is None
    (repo / ".incoming").mkdir()
    (repo / "elsewhere").rename(repo / ".incoming" / "of-the-dead")
    served.gets.clear()
    assert ours.ensure(ENTRY).path == snapshot
    assert served.gets == {}


@pytest.mark.parametrize("nonsense", [b"{", b'{"files": 3}'])
def test_a_model_whose_marker_cannot_be_read_is_ours_and_checked_again(
    tmp_path: Path, served: HubServer, repo: Path, nonsense: bytes
) -> None:
    ours = store(tmp_path, served)
    path = ours.ensure(ENTRY).path
    marker_path(repo, COMMIT).write_bytes(nonsense)
    (path / "tokenizer/vocab.json").write_bytes(b'{"b": 1}')
    assert ours.find(ENTRY) is None
    (stored,) = [m for m in ours.stored() if m.model_id == MODEL]
    assert (stored.ours, stored.complete) == (True, False)
    served.gets.clear()
    assert ours.ensure(ENTRY).path == path
    assert served.gets == {"tokenizer/vocab.json": 1}
    assert [(m.ours, m.complete) for m in ours.stored() if m.model_id == MODEL] == [(True, True)]


@pytest.mark.parametrize(("there", "branch"), [("fast", "fast/new"), ("fast/new", "fast"), ("main", "main/new")])
def test_a_branch_whose_ref_another_is_in_the_way_of_is_downloaded_and_found(
    tmp_path: Path, served: HubServer, there: str, branch: str
) -> None:
    served.repos[MODEL].branches = ("main", "fast", "fast/new", "main/new")
    ours = store(tmp_path, served)
    ours.ensure(ENTRY.model_copy(update={"revision": there}))
    served.repos[MODEL].commit = "3" * 40
    other = ENTRY.model_copy(update={"revision": branch})
    source = ours.ensure(other)
    assert source.revision == "3" * 40
    served.seen.clear()
    assert ours.ensure(other) == source
    assert not served.seen


def test_what_another_tool_began_is_completed_and_stays_another_tools(
    tmp_path: Path, served: HubServer, repo: Path
) -> None:
    begun = {n: REMOTE[n] for n in CHOSEN if n != "unet/config.json"} | {"tokenizer/vocab.json": b"wrong"}
    write_cached(tmp_path, MODEL, COMMIT, begun)
    ours = store(tmp_path, served)
    source = ours.ensure(ENTRY)
    assert {n: (source.path / n).read_bytes() for n in CHOSEN} == {n: REMOTE[n] for n in CHOSEN}
    assert served.gets == {"unet/config.json": 1, "tokenizer/vocab.json": 1}
    marker = read_marker(repo, COMMIT)
    assert marker is not None
    assert marker.shared
    (stored,) = [m for m in ours.stored() if m.model_id == MODEL]
    assert (stored.ours, stored.complete) == (False, True)
    assert not ours.evict(stored)


def test_a_move_of_the_branch_is_another_snapshot_beside_the_first(tmp_path: Path, served: HubServer) -> None:
    ours = store(tmp_path, served)
    ours.ensure(ENTRY)
    served.repos[MODEL].commit = "3" * 40
    assert ours.ensure(ENTRY).revision == COMMIT  # nobody is asked
    moved = ours.ensure(ENTRY.model_copy(update={"revision": "3" * 40}))
    assert moved.revision == "3" * 40
    assert {m.revision for m in ours.stored() if m.model_id == MODEL} == {COMMIT, "3" * 40}


def never(moment: Any) -> None:
    """Goes on."""


def download(root: Path, served: HubServer, lease: Lease) -> Download:
    hub = Hub(served.url)
    files = wanted(hub.listing(MODEL, "main"), (), {})
    repo, meter = root / folder_name(MODEL), Meter(files.total())
    return Download(hub, files, None, repo, lease, meter, Space(root, Readers()), never)


def test_one_who_lost_the_lease_publishes_nothing(tmp_path: Path, served: HubServer, repo: Path) -> None:
    """A process that slept in the middle of a file; meanwhile another took over and adopted what there was."""
    gate, arrived = threading.Event(), threading.Event()
    served.faults[WEIGHTS] = [held(gate, arrived)]
    quiet = Timing(beat_s=3600, stale_s=0)
    lease = Waiter(repo, quiet).attempt()
    assert lease is not None
    ended: list[BaseException] = []

    def run() -> None:
        try:
            with lease:
                download(tmp_path, served, lease).run()
        except LeaseLost as exc:
            ended.append(exc)

    slow = threading.Thread(target=run)
    slow.start()
    assert arrived.wait(30)
    second = Waiter(repo, quiet)
    second.attempt()
    heir = second.attempt()
    assert heir is not None
    with heir:
        taken = incoming.adopt(repo, heir.token)
        assert names(taken) == [n for n in CHOSEN if n != WEIGHTS]
        gate.set()
        slow.join()
        assert len(ended) == 1
        assert not (repo / "snapshots").exists()
        heir.check()
        assert download(tmp_path, served, heir).run() == repo / "snapshots" / COMMIT


def test_what_downloads_of_days_ago_have_left_is_removed(tmp_path: Path) -> None:
    old = write_files(tmp_path / folder_name("Ours/Old") / ".incoming" / "dead", FILES)
    new = write_files(tmp_path / folder_name("Ours/New") / ".incoming" / "dead", FILES)
    held_still = write_files(tmp_path / folder_name("Ours/Held") / ".incoming" / "slow", FILES)
    tomorrow = time.time() + incoming.OLD_S + 60
    for file in new.rglob("*"):
        os.utime(file, (tomorrow, tomorrow))
    lease = Waiter(held_still.parent.parent).attempt()
    assert lease is not None
    with lease:
        incoming.sweep(tmp_path, now=lambda: tomorrow)
        assert (old.exists(), new.exists(), held_still.exists()) == (False, True, True)


def test_the_marker_is_read_by_people_too(tmp_path: Path, served: HubServer, repo: Path) -> None:
    store(tmp_path, served).ensure(ENTRY)
    told = json.loads(marker_path(repo, COMMIT).read_text())
    assert told["commit"] == COMMIT
    assert told["files"][WEIGHTS]["size"] == len(REMOTE[WEIGHTS])
    assert told["at"].endswith("+00:00")
    assert str(os.getpid()) in told["by"]
