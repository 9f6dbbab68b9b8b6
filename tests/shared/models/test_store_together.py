"""Jobs and workers that want one model at once: it is downloaded once, whoever leaves or dies."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from shared.errors import Cancelled
from shared.job import CancelToken
from shared.models.cached import folder_name
from shared.models.lease import Timing, Waiter, read_holder
from shared.models.store import Store
from shared.models.wanted import wanted_files
from shared.schemas import ModelSource
from shared.settings import inherited
from tests.shared.models.folders import REMOTE
from tests.shared.models.hub_server import HubServer, held, slow
from tests.shared.models.stores import MODEL, NEW, entry, store
from tests.shared.models.together import ROOT, answers, locks, store_in, worker

WEIGHTS = "unet/diffusion_pytorch_model.fp16.safetensors"


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
