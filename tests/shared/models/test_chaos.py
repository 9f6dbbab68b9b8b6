"""Workers on one folder that are killed in the middle of downloads: no wrong model, no second download, no lock left.

The short round belongs to the ordinary tests, the long one to `make chaos`.
"""

import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.models.cached import folder_name
from shared.models.inventory import Stored
from shared.models.lease import read_holder
from shared.models.wanted import wanted_files
from tests.shared.models.folders import REMOTE, safetensors
from tests.shared.models.hub_server import HubServer, corrupt, dropped, hub_server, slow
from tests.shared.models.together import answers, entry_of, locks, store_in, worker

LARGEST = "unet/diffusion_pytorch_model.fp16.safetensors"
HOLDER_DIES = 0.7  # how often the one that downloads is killed, and not any


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with hub_server() as server:
        server.always = slow(0.6)
        yield server


def files_of(model_id: str) -> dict[str, bytes]:
    """A repository whose files differ from those of other models."""
    return {
        **REMOTE,
        "tokenizer/vocab.json": f'{{"{model_id}": 0}}'.encode(),
        "unet/diffusion_pytorch_model.safetensors": safetensors(500, model_id.encode()),
        "vae/diffusion_pytorch_model.safetensors": safetensors(900_000, f"vae of {model_id}".encode()),
        LARGEST: safetensors(1_500_000, f"unet of {model_id}".encode()),
    }


class Round:
    """Many workers that want one model, some of which are killed while it arrives."""

    def __init__(self, root: Path, hub: HubServer, model_id: str, chance: random.Random) -> None:
        self.root, self.hub, self.model_id, self.chance = root, hub, model_id, chance
        self.files = files_of(model_id)
        hub.add(model_id, self.files, f"{chance.getrandbits(160):040x}")
        self.commit = hub.repos[model_id].commit
        self.repo = root / folder_name(model_id)
        self.workers: list[subprocess.Popen[str]] = []
        self.killed = 0

    def run(self, workers: int, kills: int) -> None:
        self.workers += [self.started() for _ in range(workers)]
        for _ in range(kills):
            self.wait_for_bytes(self.chance.randrange(1, 2_000_000))
            self.kill_one()
            self.check_what_is_published()
        said = answers(self.workers)
        assert {line.split()[0] for line in said} == {self.commit}, said
        self.check_what_is_published()
        self.check_that_no_lock_stays()

    def started(self) -> "subprocess.Popen[str]":
        return worker(self.root, self.hub.url, self.model_id)

    def wait_for_bytes(self, number: int) -> None:
        """Until the hub has sent so many more, or there is no more to send."""
        before = sum(self.hub.bytes_sent.values())
        while sum(self.hub.bytes_sent.values()) < before + number:
            if all(process.poll() is not None for process in self.workers) or self.is_published():
                return
            time.sleep(0.01)

    def kill_one(self) -> None:
        """Mostly the one that holds the lease; another is started in its place."""
        alive = [process for process in self.workers if process.poll() is None]
        if not alive:
            return
        holder = read_holder(self.repo)
        holding = [process for process in alive if holder and process.pid == holder.pid]
        victim = holding[0] if holding and self.chance.random() < HOLDER_DIES else self.chance.choice(alive)
        victim.send_signal(signal.SIGKILL)
        victim.communicate()
        self.workers.remove(victim)
        self.killed += 1
        self.workers.append(self.started())

    def check_that_no_lock_stays(self) -> None:
        """One who was killed just after publishing leaves its lease to the next who looks for the model."""
        store = store_in(self.root, self.hub.url)
        store.ensure(entry_of(self.model_id))
        while locks(self.root, self.model_id):  # ends, or the test's time does
            time.sleep(0.01)
        store.close()

    def freeze_holder(self) -> bool:
        """Stop the one that downloads until another has taken over, and let it go on then."""
        holder = read_holder(self.repo)
        victim = next((p for p in self.workers if holder and p.pid == holder.pid and p.poll() is None), None)
        if victim is None:
            return False
        victim.send_signal(signal.SIGSTOP)
        while (now := read_holder(self.repo)) and holder and now.token == holder.token:
            time.sleep(0.01)  # ends, or the test's time does
        victim.send_signal(signal.SIGCONT)
        return True

    def is_published(self) -> bool:
        return any(m.complete for m in self.stored())

    def check_what_is_published(self) -> None:
        """What counts as complete is, byte by byte, what the hub has."""
        for model in self.stored():
            if not model.complete:
                continue
            names = wanted_files(list(self.files))
            assert {name: (model.path / name).read_bytes() for name in names} == {n: self.files[n] for n in names}
            assert store_in(self.root, self.hub.url).verify(model) == []

    def stored(self) -> list[Stored]:
        """The model of this round, if anything of it is there."""
        return [m for m in store_in(self.root, self.hub.url).stored() if m.model_id == self.model_id]


@pytest.mark.parametrize("seed", [1])
def test_a_round_of_kills(tmp_path: Path, hub: HubServer, seed: int) -> None:
    chance = random.Random(seed)
    one = Round(tmp_path, hub, "Ours/Small-1", chance)
    hub.faults[LARGEST] = [corrupt]
    one.run(workers=4, kills=2)
    assert one.killed
    assert hub.overlaps() == []


@pytest.mark.chaos
@pytest.mark.timeout(3600)
def test_many_rounds_of_kills(tmp_path: Path, hub: HubServer) -> None:
    chance = random.Random()
    killed = 0
    for number in range(20):
        hub.faults[LARGEST] = chance.choices([corrupt, dropped], k=chance.randrange(3))
        one = Round(tmp_path, hub, f"Ours/Small-{number}", chance)
        one.run(workers=8, kills=chance.randrange(2, 6))
        killed += one.killed
        print(f"round {number}: {one.killed} killed, {dict(hub.gets)}")
        hub.gets.clear()
    assert killed >= 20
    assert hub.overlaps() == []


@pytest.mark.chaos
@pytest.mark.timeout(3600)
def test_many_rounds_of_holders_that_were_only_slow(tmp_path: Path, hub: HubServer) -> None:
    """Each wakes up with half a download, finds that it is another's, and neither publishes nor fails."""
    chance = random.Random()
    frozen = 0
    for number in range(10):
        one = Round(tmp_path, hub, f"Ours/Small-{number}", chance)
        one.workers = [one.started() for _ in range(5)]
        for _ in range(4):
            one.wait_for_bytes(chance.randrange(1, 1_500_000))
            frozen += one.freeze_holder()
            one.check_what_is_published()
        one.run(workers=1, kills=0)
        print(f"round {number}: {frozen} frozen so far")
    assert frozen >= 10
