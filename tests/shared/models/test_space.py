"""Room on the volume: the least recently used go first, and none that is pinned, read, or another tool's."""

import errno
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.errors import ModelUnavailable
from shared.models.cached import EVICTING, folder_name
from shared.models.catalog import Entry
from shared.models.inventory import Stored
from shared.models.lease import Timing, Waiter
from shared.models.published import marker_path
from shared.models.readers import FOLDER, STALE_S, Readers
from shared.models.space import Published, Space
from shared.models.store import Store
from tests.shared.models.folders import REMOTE, safetensors, write_cached
from tests.shared.models.hub_server import HubServer, held, hub_server
from tests.shared.models.together import entry_of

WEIGHTS = "unet/diffusion_pytorch_model.fp16.safetensors"
MB = 2**20
QUICK = Timing(beat_s=0.05, stale_s=0.3)


@pytest.fixture
def served() -> Iterator[HubServer]:
    with hub_server() as server:
        for n, letter in enumerate("ABCD"):
            files = {**REMOTE, WEIGHTS: safetensors(MB, letter.encode())}
            server.add(f"Ours/{letter}", files, f"{n + 1}" * 40)
        yield server


def store(root: Path, served: HubServer, *, room_for: float | None = None, pinned: str = "") -> Store:
    """A store with room for so many models."""
    limit = None if room_for is None else int(room_for * 1.01 * MB)
    keep = [(name, served.repos[name].commit) for name in pinned.split()]
    return Store(root, volumes=(), hub_url=served.url, max_bytes=limit, pinned=keep, timing=QUICK)


def here(ours: Store, root: Path) -> list[str]:
    return sorted(m.model_id.removeprefix("Ours/") for m in ours.stored() if m.path.is_relative_to(root))


def stored(ours: Store, name: str) -> Stored:
    (model,) = [m for m in ours.stored() if m.model_id == name]
    return model


def used_at(root: Path, name: str, seconds: float) -> None:
    """The model was last used at that time."""
    for file in (root / folder_name(name)).glob(".used-*"):
        os.utime(file, (seconds, seconds))


def fill(ours: Store, root: Path, *names: str) -> None:
    """These models, the first used the longest time ago."""
    for n, name in enumerate(names):
        ours.ensure(entry_of(name))
        used_at(root, name, 1e9 + n)


def test_the_least_recently_used_goes_when_the_limit_is_reached(tmp_path: Path, served: HubServer) -> None:
    ours = store(tmp_path, served, room_for=2)
    fill(ours, tmp_path, "Ours/A", "Ours/B")
    ours.find(entry_of("Ours/A"))  # used again
    ours.ensure(entry_of("Ours/C"))
    assert here(ours, tmp_path) == ["A", "C"]
    assert not (tmp_path / folder_name("Ours/B")).exists()


def test_a_pinned_model_stays(tmp_path: Path, served: HubServer) -> None:
    ours = store(tmp_path, served, room_for=2, pinned="Ours/A")
    fill(ours, tmp_path, "Ours/A", "Ours/B")
    ours.ensure(entry_of("Ours/C"))
    assert here(ours, tmp_path) == ["A", "C"]


def test_a_model_that_this_worker_has_loaded_stays(tmp_path: Path, served: HubServer) -> None:
    ours = store(tmp_path, served, room_for=2)
    fill(ours, tmp_path, "Ours/A", "Ours/B")
    loaded = ours.find(entry_of("Ours/A"))
    assert loaded is not None
    used_at(tmp_path, "Ours/A", 1e9)
    ours.loaded([loaded])
    ours.ensure(entry_of("Ours/C"))
    assert here(ours, tmp_path) == ["A", "C"]
    ours.loaded([])
    used_at(tmp_path, "Ours/A", 1e9)
    ours.ensure(entry_of("Ours/D"))
    assert here(ours, tmp_path) == ["C", "D"]


def test_a_model_that_another_worker_reads_stays(tmp_path: Path, served: HubServer) -> None:
    ours, other = (store(tmp_path, served, room_for=2) for _ in range(2))
    fill(ours, tmp_path, "Ours/A", "Ours/B")
    source = other.ensure(entry_of("Ours/A"))
    used_at(tmp_path, "Ours/A", 1e9)
    with other.hold(entry_of("Ours/A"), source):
        assert stored(ours, "Ours/A").in_use
        assert not ours.evict(stored(ours, "Ours/A"))
        ours.ensure(entry_of("Ours/C"))
        assert here(ours, tmp_path) == ["A", "C"]
    assert not stored(ours, "Ours/A").in_use
    assert ours.evict(stored(ours, "Ours/A"))
    other.close()


def test_one_who_was_killed_while_reading_does_not_keep_a_model_for_ever(tmp_path: Path, served: HubServer) -> None:
    ours = store(tmp_path, served)
    fill(ours, tmp_path, "Ours/A")
    readers = tmp_path / folder_name("Ours/A") / FOLDER
    readers.mkdir()
    dead = readers / f"{stored(ours, 'Ours/A').revision}-of-the-dead"
    dead.touch()
    assert not ours.evict(stored(ours, "Ours/A"))
    os.utime(dead, (time.time() - STALE_S - 1,) * 2)
    assert ours.evict(stored(ours, "Ours/A"))
    assert here(ours, tmp_path) == []


def test_readers_show_that_they_live(tmp_path: Path) -> None:
    readers = Readers(beat_s=0.01)
    with readers.hold(tmp_path, "commit"):
        (file,) = (tmp_path / FOLDER).iterdir()
        os.utime(file, (1e9, 1e9))
        while file.stat().st_mtime == 1e9:  # ends, or the test's time does
            time.sleep(0.001)
        with readers.hold(tmp_path, "commit"):
            pass
        assert file.exists()
    assert list((tmp_path / FOLDER).iterdir()) == []
    readers.close()


def test_another_tools_model_is_never_deleted(tmp_path: Path, served: HubServer) -> None:
    write_cached(tmp_path, "Ours/Foreign", "f" * 40)
    ours = store(tmp_path, served, room_for=1)
    fill(ours, tmp_path, "Ours/A")
    assert not ours.evict(stored(ours, "Ours/Foreign"))
    ours.ensure(entry_of("Ours/B"))
    assert here(ours, tmp_path) == ["B", "Foreign"]


def test_a_model_that_cannot_fit_is_refused_before_its_download_and_evicts_nothing(
    tmp_path: Path, served: HubServer
) -> None:
    fill(store(tmp_path, served), tmp_path, "Ours/A")
    ours = store(tmp_path, served, room_for=0.5)
    served.gets.clear()
    with pytest.raises(ModelUnavailable, match=r"the model 'Ours/B' needs 0\.00 GB; MODELS_MAX_GB is") as caught:
        ours.ensure(entry_of("Ours/B"))
    assert caught.value.detail == {"reason": "no_room"}
    assert (here(ours, tmp_path), served.gets) == (["A"], {})
    assert not (tmp_path / folder_name("Ours/B")).exists()


def test_a_model_that_fits_only_beside_pinned_ones_is_refused(tmp_path: Path, served: HubServer) -> None:
    ours = store(tmp_path, served, room_for=1, pinned="Ours/A")
    fill(ours, tmp_path, "Ours/A")
    with pytest.raises(ModelUnavailable, match="pinned or in use"):
        ours.ensure(entry_of("Ours/B"))
    assert ours.find(entry_of("Ours/A"))  # the worker goes on with what it has


def test_nothing_is_evicted_for_a_model_that_finds_no_room_beside_what_another_worker_reads(
    tmp_path: Path, served: HubServer
) -> None:
    """Of three, one is read elsewhere: two that may go are not enough for the fourth."""
    served.repos["Ours/D"].files[WEIGHTS] = safetensors(3 * MB, b"D")
    ours, other = store(tmp_path, served, room_for=3), store(tmp_path, served)
    fill(ours, tmp_path, "Ours/A", "Ours/B", "Ours/C")
    source = other.ensure(entry_of("Ours/B"))
    other.loaded([source])
    with pytest.raises(ModelUnavailable, match="'Ours/D' needs"):
        ours.ensure(entry_of("Ours/D"))
    assert here(ours, tmp_path) == ["A", "B", "C"]
    lease = Waiter(tmp_path / folder_name("Ours/D"), QUICK).attempt()
    assert lease is not None
    with lease, pytest.raises(ModelUnavailable, match=r"'Ours/D' needs .* the disk has"):
        room(tmp_path, [0]).ask(int(2.5 * MB), lease)
    assert here(ours, tmp_path) == ["A", "B", "C"]
    other.loaded([])
    ours.ensure(entry_of("Ours/D"))
    assert here(ours, tmp_path) == ["D"]
    other.close()


def test_what_is_published_already_of_the_model_that_comes_does_not_go_for_it(
    tmp_path: Path, served: HubServer
) -> None:
    """Its own files stay, so nothing else goes where they leave too little."""
    served.repos["Ours/B"].files["two.safetensors"] = safetensors(2 * MB, b"2")
    ours = store(tmp_path, served, room_for=2)
    fill(ours, tmp_path, "Ours/B", "Ours/A")
    with pytest.raises(ModelUnavailable, match="'Ours/B' needs"):
        ours.ensure(Entry(pipeline="upscale", model_id="Ours/B/two.safetensors"))
    assert here(ours, tmp_path) == ["A", "B"]


def test_a_model_is_pinned_however_its_name_is_written(tmp_path: Path, served: HubServer) -> None:
    served.repos["ours/a"] = served.repos["Ours/A"]
    store(tmp_path, served).ensure(entry_of("ours/a"))
    ours = store(tmp_path, served, room_for=1, pinned="Ours/A")
    assert stored(ours, "ours/a").pinned
    with pytest.raises(ModelUnavailable, match="pinned or in use"):
        ours.ensure(entry_of("Ours/B"))
    assert ours.find(entry_of("Ours/A"))


def test_a_model_that_cannot_be_deleted_altogether_stays_the_stores(
    tmp_path: Path, served: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = store(tmp_path, served)
    path = ours.ensure(entry_of("Ours/A")).path
    really = os.unlink

    def unlink(name: str, **more: int) -> None:
        if str(name).endswith(".safetensors"):
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        really(name, **more)

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", unlink)
        assert not ours.evict(stored(ours, "Ours/A"))
    left = stored(ours, "Ours/A")
    assert (left.ours, left.complete) == (True, False)
    assert (path / WEIGHTS).exists()
    assert ours.find(entry_of("Ours/A")) is None
    served.gets.clear()
    ours.ensure(entry_of("Ours/A"))
    assert served.gets[WEIGHTS] == 0  # what is left is whole
    assert stored(ours, "Ours/A").ours
    assert ours.evict(stored(ours, "Ours/A"))
    assert list(tmp_path.iterdir()) == []


def room(root: Path, free: list[int]) -> Space:
    """A volume that says that it has so much free."""
    return Space(root, Readers(), timing=QUICK, free_bytes=lambda root: free.pop(0))


def test_free_space_is_made_before_a_download(tmp_path: Path, served: HubServer) -> None:
    ours = store(tmp_path, served)
    fill(ours, tmp_path, "Ours/A", "Ours/B")
    lease = Waiter(tmp_path / folder_name("Ours/C"), QUICK).attempt()
    assert lease is not None
    with lease:
        room(tmp_path, [MB]).ask(2 * MB, lease)
        assert here(ours, tmp_path) == ["B"]
        with pytest.raises(ModelUnavailable, match=r"the disk has 0\.0 GB free") as caught:
            room(tmp_path, [0]).ask(2 * MB, lease)
        assert here(ours, tmp_path) == ["B"]
    assert caught.value.detail == {"reason": "no_room"}


def test_a_model_on_which_another_works_is_not_evicted(tmp_path: Path, served: HubServer) -> None:
    ours = store(tmp_path, served)
    fill(ours, tmp_path, "Ours/A")
    lease = Waiter(tmp_path / folder_name("Ours/A"), QUICK).attempt()
    assert lease is not None
    with lease:
        assert not ours.evict(stored(ours, "Ours/A"))
    assert ours.evict(stored(ours, "Ours/A"))


def test_a_dead_workers_lease_does_not_keep_a_model(tmp_path: Path, served: HubServer) -> None:
    ours = store(tmp_path, served)
    fill(ours, tmp_path, "Ours/A")
    assert Waiter(tmp_path / folder_name("Ours/A"), QUICK).attempt()  # never a heartbeat
    assert ours.evict(stored(ours, "Ours/A"))
    assert not (tmp_path / folder_name("Ours/A")).exists()


def test_half_an_eviction_is_no_model_and_is_finished_by_the_next(tmp_path: Path, served: HubServer) -> None:
    ours = store(tmp_path, served)
    source = ours.ensure(entry_of("Ours/A"))
    repo, commit = source.path.parent.parent, source.revision
    marker_path(repo, commit).rename(repo / EVICTING.format(commit))
    assert ours.find(entry_of("Ours/A")) is None
    assert here(ours, tmp_path) == []
    again = ours.ensure(entry_of("Ours/A"))
    assert (again.path / WEIGHTS).read_bytes() == served.repos["Ours/A"].files[WEIGHTS]
    assert not (repo / EVICTING.format(commit)).exists()
    assert ours.find(entry_of("Ours/A")) == again


def test_half_an_eviction_of_a_model_that_is_read_is_taken_back(tmp_path: Path, served: HubServer) -> None:
    ours, other = store(tmp_path, served), store(tmp_path, served)
    source = other.ensure(entry_of("Ours/A"))
    repo, commit = source.path.parent.parent, source.revision
    with other.hold(entry_of("Ours/A"), source):
        marker_path(repo, commit).rename(repo / EVICTING.format(commit))
        served.gets.clear()
        assert ours.ensure(entry_of("Ours/A")) == source
        assert served.gets == {}
    other.close()


def test_a_model_evicted_between_finding_and_holding_is_downloaded_again(tmp_path: Path, served: HubServer) -> None:
    ours = store(tmp_path, served)
    source = ours.ensure(entry_of("Ours/A"))
    assert ours.evict(stored(ours, "Ours/A"))
    with ours.hold(entry_of("Ours/A"), source) as found:
        assert (found.path / WEIGHTS).is_file()
        assert not ours.evict(stored(ours, "Ours/A"))


def test_of_many_who_evict_one_model_one_does(tmp_path: Path, served: HubServer) -> None:
    ours = store(tmp_path, served)
    fill(ours, tmp_path, "Ours/A")
    model = stored(ours, "Ours/A")
    done: list[bool] = []
    threads = [threading.Thread(target=lambda: done.append(ours.evict(model))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done.count(True) == 1
    assert list(tmp_path.iterdir()) == []


def test_two_versions_of_a_model_are_evicted_one_by_one(tmp_path: Path, served: HubServer) -> None:
    ours = store(tmp_path, served, room_for=2)
    fill(ours, tmp_path, "Ours/A")
    served.repos["Ours/A"].commit = "9" * 40
    served.repos["Ours/A"].files[WEIGHTS] = safetensors(MB, b"9")
    newer = Entry(pipeline="text-to-image", model_id="Ours/A", revision="9" * 40)
    ours.ensure(newer)
    used_at(tmp_path, "Ours/A", 1e9)
    ours.find(newer)
    ours.ensure(entry_of("Ours/B"))
    assert [m.revision[0] for m in ours.stored() if m.path.is_relative_to(tmp_path)] == ["9", "2"]
    assert not (tmp_path / folder_name("Ours/A") / "refs").exists()  # it named the one that went


def test_a_download_in_another_folder_keeps_its_lease_while_it_evicts(tmp_path: Path, served: HubServer) -> None:
    """An older commit of the very model that is being downloaded may go, under the lease that is held."""
    ours = store(tmp_path, served, room_for=1)
    fill(ours, tmp_path, "Ours/A")
    served.repos["Ours/A"].commit = "9" * 40
    served.repos["Ours/A"].files[WEIGHTS] = safetensors(MB, b"9")
    ours.ensure(Entry(pipeline="text-to-image", model_id="Ours/A", revision="9" * 40))
    assert [m.revision[0] for m in ours.stored() if m.path.is_relative_to(tmp_path)] == ["9"]


def test_published_models_are_told_by_their_last_use(tmp_path: Path, served: HubServer) -> None:
    ours = store(tmp_path, served)
    fill(ours, tmp_path, "Ours/B", "Ours/A")
    space = Space(tmp_path, Readers())
    assert [model.marker.model_id for model in space.published()] == ["Ours/B", "Ours/A"]
    assert [model.last_used() for model in space.published()] == [1e9, 1e9 + 1]
    assert space.used_bytes() > 2 * MB
    gone = Published(space.published()[0].repo, space.published()[0].marker)
    assert space.evict(gone)
    assert not space.evict(gone)
    gate = threading.Event()
    served.faults[WEIGHTS] = [held(gate)]
    gate.set()
    ours.ensure(entry_of("Ours/B"))
