"""A volume that is full, at each place where a download writes: others go first, and nothing is left behind."""

import contextlib
import errno
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.errors import ModelUnavailable
from shared.models.cached import folder_name
from shared.models.hub import Hub, Listing, Remote
from shared.models.hub_errors import FULL as FULL_ERRNOS
from shared.models.hub_errors import DiskFull, asked
from shared.models.lease import Timing
from shared.models.store import Store
from shared.settings import inherited
from tests.shared.models.folders import REMOTE, safetensors
from tests.shared.models.hub_server import HubServer, held, hub_server
from tests.shared.models.together import ROOT, entry_of

WEIGHTS = "unet/diffusion_pytorch_model.fp16.safetensors"
MB = 2**20
QUICK = Timing(beat_s=0.05, stale_s=0.3)
WAIT_S = 60
A, B = entry_of("Ours/A"), entry_of("Ours/B")


@pytest.fixture
def served() -> Iterator[HubServer]:
    with hub_server() as server:
        for n, letter in enumerate("ABC"):
            files = {**REMOTE, WEIGHTS: safetensors(MB, letter.encode())}
            server.add(f"Ours/{letter}", files, f"{n + 1}" * 40)
        yield server


def store(root: Path, served: HubServer, *, pinned: bool = False) -> Store:
    """A store that has A, and may delete it unless it is pinned."""
    keep = [("Ours/A", served.repos["Ours/A"].commit)] if pinned else []
    ours = Store(root, volumes=(), hub_url=served.url, pinned=keep, timing=QUICK)
    ours.ensure(A)
    return ours


def here(ours: Store, root: Path) -> list[str]:
    found = [m.model_id for m in ours.stored() if m.path.is_relative_to(root)]
    assert sorted(map(folder_name, found)) == sorted(f.name for f in root.iterdir())
    return sorted(name.removeprefix("Ours/") for name in found)


def refused(ours: Store) -> None:
    with pytest.raises(ModelUnavailable, match="the volume is full; delete files or evict models") as caught:
        ours.ensure(B)
    assert caught.value.detail == {"reason": "disk_full"}


class Quota:
    """Some writes of this process find no space, as many times as it is told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
        self._patch, self._number = monkeypatch, number
        self.times = 0

    def at(self, owner: Any, name: str, of: Callable[..., bool], times: int) -> None:
        """Calls of a function of the system fail where `of` says so of their arguments."""
        really = getattr(owner, name)
        self.times = times

        def full(*args: Any, **more: Any) -> Any:
            if self.times and of(*args):
                self.times -= 1
                raise OSError(self._number, os.strerror(self._number))
            return really(*args, **more)

        self._patch.setattr(owner, name, full)


@pytest.fixture(params=FULL_ERRNOS, ids=[errno.errorcode[number] for number in FULL_ERRNOS])
def quota(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Quota:
    return Quota(monkeypatch, request.param)


def file_of(descriptor: int) -> str:
    return str(Path(f"/proc/self/fd/{descriptor}").readlink())


PLACES: dict[str, tuple[Any, str, Callable[..., bool]]] = {
    "a folder for what comes": (
        Path,
        "mkdir",
        lambda path, *a: path.parent.name == ".incoming" and "-" not in path.name,
    ),
    "a file that came, at last": (os, "fsync", lambda descriptor: file_of(descriptor).endswith(WEIGHTS)),
    "a marker": (os, "fsync", lambda descriptor: ".published-" in file_of(descriptor)),
    "a publication": (Path, "rename", lambda path, target: Path(target).parent.name == "snapshots"),
    "a ref": (os, "fsync", lambda descriptor: "/refs/" in file_of(descriptor)),
}


@pytest.mark.parametrize("place", PLACES)
def test_where_a_write_finds_no_space_another_model_goes(
    tmp_path: Path, served: HubServer, quota: Quota, place: str
) -> None:
    ours = store(tmp_path, served)
    quota.at(*PLACES[place], times=1)
    assert (ours.ensure(B).path / WEIGHTS).read_bytes() == served.repos["Ours/B"].files[WEIGHTS]
    assert here(ours, tmp_path) == ["B"]
    assert not quota.times


@pytest.mark.parametrize("place", PLACES)
def test_where_no_other_may_go_the_volume_is_full_and_as_it_was(
    tmp_path: Path, served: HubServer, quota: Quota, place: str
) -> None:
    ours = store(tmp_path, served, pinned=True)
    quota.at(*PLACES[place], times=1)
    refused(ours)
    assert here(ours, tmp_path) == (["A", "B"] if place == "a ref" else ["A"])  # which is complete without it
    assert ours.find(A)
    ours.ensure(B)
    assert here(ours, tmp_path) == ["A", "B"]
    assert not list(tmp_path.glob("*/.[il]*"))


def test_what_has_just_been_published_is_not_evicted_for_its_own_ref(
    tmp_path: Path, served: HubServer, quota: Quota
) -> None:
    ours = store(tmp_path, served)
    quota.at(*PLACES["a ref"], times=100)
    refused(ours)
    assert quota.times == 98
    assert here(ours, tmp_path) == ["B"]
    assert ours.find(B)


def test_a_file_that_a_failed_write_may_have_lost_is_fetched_again(
    tmp_path: Path, served: HubServer, quota: Quota
) -> None:
    """What the system had of it in memory is still read, and right, though it will never be on the disk."""
    ours = store(tmp_path, served)
    served.gets.clear()
    quota.at(*PLACES["a file that came, at last"], times=1)
    ours.ensure(B)
    assert served.gets[WEIGHTS] == 2
    assert set(served.gets.values()) == {1, 2}


def test_a_volume_without_room_for_a_lease_says_so(tmp_path: Path, served: HubServer, quota: Quota) -> None:
    ours = store(tmp_path, served)
    quota.at(Path, "mkdir", lambda path, *a: path.name.startswith("lease-"), times=1)
    refused(ours)
    assert here(ours, tmp_path) == ["A"]
    ours.ensure(B)


@pytest.mark.parametrize(
    ("owner", "name", "of"),
    [
        (os, "pwrite", lambda descriptor, *a: "/.lease/" in file_of(descriptor)),
        (Path, "touch", lambda path, *a: path.name.startswith(".used-")),
        (Path, "touch", lambda path, *a: path.parent.name == ".readers"),
    ],
    ids=["heartbeat", "use", "reader"],
)
def test_what_only_tells_others_may_fail(
    tmp_path: Path, served: HubServer, quota: Quota, owner: Any, name: str, of: Callable[..., bool]
) -> None:
    ours = store(tmp_path, served)
    quota.at(owner, name, of, times=1000)
    source = ours.ensure(B)
    with ours.hold(B, source):
        assert here(ours, tmp_path) == ["A", "B"]
    assert quota.times < 1000
    ours.close()


@pytest.mark.parametrize(("number", "is_full"), [(28, True), (122, True), (5, False), (1228, False)])
def test_what_xet_says_in_words_only_is_understood(served: HubServer, number: int, is_full: bool) -> None:
    from huggingface_hub import HfApi

    def fetch() -> None:
        raise RuntimeError(f"Data processing error: IO Error: no words (os error {number})")

    with pytest.raises(DiskFull if is_full else ModelUnavailable):
        asked(HfApi(served.url), "Ours/A", "main", fetch)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MB, for as long as the test takes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("no disk can be mounted here: that takes root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Take all the space that there is."""
    file = folder / "filler"
    with contextlib.suppress(OSError), file.open("wb", buffering=0) as filler:
        while filler.write(bytes(4096)):
            pass
    return file


def fill_meanwhile(ours: Store, served: HubServer, disk: Path) -> None:
    """Download B; in the middle of its weights, something else takes what is left."""
    gate, arrived = threading.Event(), threading.Event()
    served.faults[WEIGHTS] = [held(gate, arrived)]

    def take() -> None:
        assert arrived.wait(WAIT_S)
        fill(disk)
        gate.set()

    other = threading.Thread(target=take)
    other.start()
    try:
        ours.ensure(B)
    finally:
        other.join(WAIT_S)


@pytest.mark.filterwarnings("ignore:Not enough free disk space:UserWarning")
def test_a_disk_that_others_fill_meanwhile_takes_the_model_in_the_place_of_another(
    disk: Path, served: HubServer
) -> None:
    root = disk / "models"
    ours = store(root, served)
    fill_meanwhile(ours, served, disk)
    assert here(ours, root) == ["B"]
    assert ours.verify(next(m for m in ours.stored() if m.model_id == "Ours/B")) == []
    ours.close()


@pytest.mark.filterwarnings("ignore:Not enough free disk space:UserWarning")
def test_a_disk_that_others_fill_meanwhile_is_left_as_it_was_where_nothing_may_go(
    disk: Path, served: HubServer
) -> None:
    root = disk / "models"
    ours = store(root, served, pinned=True)
    with pytest.raises(ModelUnavailable, match="the volume is full") as caught:
        fill_meanwhile(ours, served, disk)
    assert caught.value.detail == {"reason": "disk_full"}
    assert here(ours, root) == ["A"]
    source = ours.ensure(A)
    with ours.hold(A, source):  # the worker goes on with what it has
        assert (source.path / WEIGHTS).read_bytes() == served.repos["Ours/A"].files[WEIGHTS]
    fill(disk).unlink()
    ours.ensure(B)
    assert here(ours, root) == ["A", "B"]
    ours.close()


FULL = """
import sys
from pathlib import Path
from shared.errors import ModelUnavailable
from shared.models.catalog import Entry
from shared.models.store import Store
root, url, *names = sys.argv[1:]
store = Store(Path(root), volumes=(), hub_url=url)
for name in names:
    try:
        print(store.ensure(Entry(pipeline="text-to-image", model_id=name)).revision[0])
    except ModelUnavailable as exc:
        print(exc.detail["reason"], exc.message)
print(sorted(m.model_id for m in store.stored() if m.path.is_relative_to(root)))
print(sum(f.stat().st_size for f in Path(root).rglob("*") if f.is_file()) // 2**20)
print([f.name for f in Path(root).rglob("*") if f.name in (".incoming", ".lease")])
"""


def on_a_small_disk(served: HubServer, folder: Path, megabytes: int, *names: str) -> list[str]:
    """What a process prints that fetches these models onto a disk of that size; skips where none can be mounted."""
    mount = f"mount -t tmpfs -o size={megabytes}m none {folder}"
    probe = subprocess.run(["unshare", "-rm", "sh", "-c", mount], capture_output=True)
    if probe.returncode:
        pytest.skip("no disk can be mounted here")
    command = f'{mount} && exec "$0" "$@"'
    python = [sys.executable, "-W", "ignore", "-c", FULL, str(folder), served.url, *names]
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", command, *python], cwd=ROOT, env=inherited(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_full_disk_evicts_what_is_not_needed(tmp_path: Path, served: HubServer) -> None:
    said = on_a_small_disk(served, tmp_path, 3, "Ours/A", "Ours/B", "Ours/C")
    assert said == ["1", "2", "3", "['Ours/B', 'Ours/C']", "2", "[]"]


def test_a_disk_that_is_too_small_is_a_clear_error_and_keeps_what_is_there(tmp_path: Path, served: HubServer) -> None:
    served.repos["Ours/B"].files[WEIGHTS] = safetensors(9 * MB)
    said = on_a_small_disk(served, tmp_path, 3, "Ours/A", "Ours/B", "Ours/C")
    assert said[1].startswith("no_room the model 'Ours/B' needs 0.0 GB, and the disk has 0.0 GB free")
    assert said[2:] == ["3", "['Ours/A', 'Ours/C']", "2", "[]"]


class FullHub(Hub):
    """A hub whose files find no space on the volume, so many times."""

    def __init__(self, url: str, times: int) -> None:
        super().__init__(url)
        self.times = times

    def fetch(self, listing: Listing, file: Remote, folder: Path, on_bytes: Callable[[int], None]) -> Path:
        if self.times:
            self.times -= 1
            raise DiskFull
        return super().fetch(listing, file, folder, on_bytes)


@pytest.mark.parametrize(("times", "left"), [(1, ["B", "C"]), (2, ["C"])])
def test_a_quota_that_only_a_write_tells_of_evicts_until_the_write_succeeds(
    tmp_path: Path, served: HubServer, times: int, left: list[str]
) -> None:
    """As on network volumes, which report the space of the whole cluster."""
    ours = store(tmp_path, served)
    os.utime(tmp_path / folder_name("Ours/A") / f".used-{'1' * 40}", (1e9, 1e9))
    ours.ensure(B)
    ours._supply._hub = FullHub(served.url, times)
    ours.ensure(entry_of("Ours/C"))
    assert here(ours, tmp_path) == left
