"""MODELS_MAX_GB among workers that download at the same time: what one is about to publish, the others count."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.errors import ModelUnavailable
from shared.models.cached import folder_name
from shared.models.catalog import Entry
from shared.models.lease import Lease, Timing, Waiter, read_holder
from shared.models.readers import Readers
from shared.models.space import Space
from shared.models.store import Store
from shared.settings import inherited
from tests.shared.models.folders import REMOTE, safetensors
from tests.shared.models.hub_server import HubServer, held, hub_server, slow
from tests.shared.models.together import ROOT, entry_of, locks

WEIGHTS = "unet/diffusion_pytorch_model.fp16.safetensors"
MB = 2**20
NAMES = [f"Ours/{letter}" for letter in "ABCDEF"]
QUICK = Timing(beat_s=0.05, stale_s=0.5)
WAIT_S = 60


@pytest.fixture
def served() -> Iterator[HubServer]:
    with hub_server() as server:
        for n, name in enumerate(NAMES):
            files = {**REMOTE, WEIGHTS: safetensors(MB, name[-1].encode())}
            server.add(name, files, f"{n + 1}" * 40)
        yield server


def limit(models: float) -> int:
    """Room for so many of them."""
    return int(models * 1.01 * MB)


def store(root: Path, served: HubServer, models: float) -> Store:
    return Store(root, volumes=(), hub_url=served.url, max_bytes=limit(models), timing=QUICK)


def used(root: Path) -> int:
    return Space(root, Readers()).used_bytes()


def refusal(ours: Store, entry: Entry) -> ModelUnavailable:
    with pytest.raises(ModelUnavailable) as caught:
        ours.ensure(entry)
    assert caught.value.detail == {"reason": "no_room"}
    return caught.value


class Going:
    """A download that has come to the middle of its weights, and goes on when it is let."""

    def __init__(self, ours: Store, served: HubServer, entry: Entry) -> None:
        self._gate, arrived = threading.Event(), threading.Event()
        served.faults[WEIGHTS].append(held(self._gate, arrived))
        self.ended: list[object] = []
        self._thread = threading.Thread(target=self._run, args=(ours, entry))
        self._thread.start()
        assert arrived.wait(WAIT_S)

    def _run(self, ours: Store, entry: Entry) -> None:
        try:
            self.ended.append(ours.ensure(entry).revision)
        except ModelUnavailable as exc:
            self.ended.append(exc)

    def end(self) -> object:
        self._gate.set()
        self._thread.join(WAIT_S)
        (ended,) = self.ended
        return ended


@pytest.mark.parametrize("same_process", [True, False])
def test_of_two_that_do_not_both_fit_the_second_is_told_so(
    tmp_path: Path, served: HubServer, same_process: bool
) -> None:
    ours = store(tmp_path, served, 1.5)
    other = ours if same_process else store(tmp_path, served, 1.5)
    first = Going(ours, served, entry_of("Ours/A"))
    assert "and 0.00 are being downloaded" in refusal(other, entry_of("Ours/B")).message
    assert used(tmp_path) == 0
    assert first.end() == "1" * 40
    other.ensure(entry_of("Ours/B"))  # in the place of the first, which nobody reads
    assert MB < used(tmp_path) <= limit(1.5)


def test_two_that_both_fit_are_downloaded_at_the_same_time(tmp_path: Path, served: HubServer) -> None:
    ours = store(tmp_path, served, 2)
    first = Going(ours, served, entry_of("Ours/A"))
    ours.ensure(entry_of("Ours/B"))
    assert first.end() == "1" * 40
    assert 2 * MB < used(tmp_path) <= limit(2)


def test_what_is_downloaded_counts_where_others_would_be_evicted_for_both(tmp_path: Path, served: HubServer) -> None:
    """Of A and B, either may go for C; D finds the room that C has claimed taken, and takes that of the other."""
    ours = store(tmp_path, served, 2)
    for name in ("Ours/A", "Ours/B"):
        ours.ensure(entry_of(name))
    first = Going(ours, served, entry_of("Ours/C"))
    ours.ensure(entry_of("Ours/D"))
    assert first.end() == "3" * 40
    assert {m.model_id for m in ours.stored() if m.path.is_relative_to(tmp_path)} == {"Ours/C", "Ours/D"}


def test_two_that_would_each_evict_what_the_other_works_on_do_not_wait_for_each_other(
    tmp_path: Path, served: HubServer
) -> None:
    """Newer versions of two models: each has the lease of the one whose old version the other needs to go."""
    ours, other = store(tmp_path, served, 2), store(tmp_path, served, 2)
    newer: list[Entry] = []
    for name, commit in (("Ours/A", "a" * 40), ("Ours/B", "b" * 40)):
        ours.ensure(entry_of(name))
        served.repos[name].commit = commit
        served.repos[name].files[WEIGHTS] = safetensors(int(1.5 * MB), commit[0].encode())
        newer.append(entry_of(name, commit))
    first = Going(ours, served, newer[0])  # for which the old A had to go, under its own lease
    assert "are being downloaded" in refusal(other, newer[1]).message
    assert first.end() == "a" * 40
    other.ensure(newer[1])
    assert used(tmp_path) <= limit(2)


def test_a_claim_ends_with_a_download_that_failed(tmp_path: Path, served: HubServer) -> None:
    ours = store(tmp_path, served, 1)
    served.repos["Ours/A"].files[WEIGHTS] = b"no header" * (MB // 9)
    with pytest.raises(ModelUnavailable, match="damaged file on the hub"):
        ours.ensure(entry_of("Ours/A"))
    ours.ensure(entry_of("Ours/B"))


def claimed(repo: Path, size: int, commit: str = "1" * 40) -> Lease:
    """A lease whose holder shows no sign of life after its claim."""
    lease = Waiter(repo, QUICK).attempt()
    assert lease is not None
    lease.claim(commit, size)
    return lease


def test_the_claim_of_one_who_was_killed_ends(tmp_path: Path, served: HubServer) -> None:
    claimed(tmp_path / folder_name("Ours/A"), MB)
    ours = store(tmp_path, served, 1)
    ours.ensure(entry_of("Ours/B"))
    assert not (tmp_path / folder_name("Ours/A")).exists()


def test_one_who_is_killed_while_it_counts_keeps_nobody_for_ever(tmp_path: Path, served: HubServer) -> None:
    assert Waiter(tmp_path, QUICK).attempt()
    store(tmp_path, served, 1).ensure(entry_of("Ours/A"))
    assert [f.name for f in tmp_path.iterdir()] == [folder_name("Ours/A")]


def test_one_who_waits_to_count_can_leave(tmp_path: Path) -> None:
    space = Space(tmp_path, Readers(), max_bytes=MB, timing=QUICK)
    counting = Waiter(tmp_path, QUICK).attempt()
    assert counting is not None
    with counting, claimed(tmp_path / folder_name("Ours/A"), 0) as lease, pytest.raises(KeyboardInterrupt):
        space.claim("1" * 40, 1, lease, between=leave)


def leave() -> None:
    raise KeyboardInterrupt


def test_what_has_been_published_is_not_counted_twice(tmp_path: Path, served: HubServer) -> None:
    """The lease is held a moment longer than the download takes."""
    ours = store(tmp_path, served, 2)
    source = ours.ensure(entry_of("Ours/A"))
    repo = source.path.parent.parent
    with claimed(repo, used(tmp_path), source.revision):
        ours.ensure(entry_of("Ours/B"))
        assert ours.find(entry_of("Ours/A")) == source


def test_a_claim_is_seen_at_once_and_ends_with_its_lease(tmp_path: Path) -> None:
    repo = tmp_path / folder_name("Ours/A")
    space = Space(tmp_path, Readers(), max_bytes=7, timing=QUICK)
    with claimed(tmp_path / folder_name("Ours/B"), 0) as other:
        with claimed(repo, 7):
            holder = read_holder(repo)
            assert holder is not None
            assert (holder.commit, holder.room) == ("1" * 40, 7)
            with pytest.raises(ModelUnavailable, match="MODELS_MAX_GB"):
                space.claim("2" * 40, 1, other)
        space.claim("2" * 40, 1, other)


WORKER = """
import sys
from pathlib import Path
from shared.errors import ModelUnavailable
from shared.models.catalog import Entry
from shared.models.lease import Timing
from shared.models.store import Store
root, url, limit, name = sys.argv[1:]
store = Store(Path(root), volumes=(), hub_url=url, max_bytes=int(limit), timing=Timing(0.2, 5.0))
entry = Entry(pipeline="text-to-image", model_id=name)
print("ready", flush=True)
input()
try:
    source = store.ensure(entry)
    with store.hold(entry, source):
        print("has it", flush=True)
        input()
except ModelUnavailable as exc:
    print(exc.detail["reason"], flush=True)
"""


def test_many_processes_never_take_more_than_the_limit(tmp_path: Path, served: HubServer) -> None:
    served.always = slow(0.3)
    arguments = [sys.executable, "-c", WORKER, str(tmp_path), served.url, str(limit(2))]
    workers = [
        subprocess.Popen(
            [*arguments, name], cwd=ROOT, env=inherited(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for name in NAMES[:4]
    ]
    try:
        for worker in workers:
            assert line(worker) == "ready"
        for worker in workers:
            tell(worker)
        said = [line(worker) for worker in workers]
        assert used(tmp_path) <= limit(2)
        assert sorted(set(said)) == ["has it", "no_room"]
        assert said.count("has it") == 2  # whoever has one holds it
        for worker, answer in zip(workers, said, strict=True):
            if answer == "has it":
                tell(worker)
            assert worker.wait(WAIT_S) == 0
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()
    assert not [lock for name in NAMES for lock in locks(tmp_path, name)]
    assert all(path.name.startswith("models--") for path in tmp_path.iterdir())


def line(worker: "subprocess.Popen[str]") -> str:
    assert worker.stdout is not None
    return worker.stdout.readline().strip()


def tell(worker: "subprocess.Popen[str]") -> None:
    assert worker.stdin is not None
    worker.stdin.write("go on\n")
    worker.stdin.flush()
