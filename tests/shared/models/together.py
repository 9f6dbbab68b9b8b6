"""Workers that want one model from one folder, each a process of its own; they may be killed."""

import subprocess
import sys
from pathlib import Path

from shared.models.cached import EVICTING, folder_name
from shared.models.catalog import Entry
from shared.models.lease import FOLDER, Timing
from shared.models.store import Store
from shared.settings import inherited

ROOT = Path(__file__).parents[3]
BEAT_S, STALE_S = 0.2, 3.0
WORKER = """
import sys
from pathlib import Path
from shared.models.catalog import Entry
from shared.models.lease import Timing
from shared.models.store import Store
root, url, model_id, revision, beat_s, stale_s = sys.argv[1:]
store = Store(Path(root), volumes=(), hub_url=url, timing=Timing(float(beat_s), float(stale_s)))
source = store.ensure(Entry(pipeline="text-to-image", model_id=model_id, revision=revision))
with store.hold(Entry(pipeline="text-to-image", model_id=model_id, revision=revision), source):
    print(source.revision, (source.path / "model_index.json").stat().st_size, flush=True)
"""


def store_in(root: Path, url: str) -> Store:
    """A store as the workers have it."""
    return Store(root, volumes=(), hub_url=url, timing=Timing(BEAT_S, STALE_S))


def entry_of(model_id: str, revision: str = "main") -> Entry:
    """A model of the text-to-image pipeline."""
    return Entry(pipeline="text-to-image", model_id=model_id, revision=revision)


def worker(root: Path, url: str, model_id: str, revision: str = "main") -> "subprocess.Popen[str]":
    """A process that wants the model, prints its revision when it has it, and ends."""
    arguments = [str(root), url, model_id, revision, str(BEAT_S), str(STALE_S)]
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, *arguments],
        cwd=ROOT,
        env=inherited(HF_HUB_DISABLE_XET="1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def answers(processes: "list[subprocess.Popen[str]]") -> list[str]:
    """What they print, once all have ended by themselves."""
    said = []
    for process in processes:
        out, err = process.communicate(timeout=120)
        if process.returncode:
            raise AssertionError(f"a worker ended with {process.returncode}:\n{err}")
        said.append(out.strip())
    return said


def locks(root: Path, model_id: str) -> list[str]:
    """What keeps others from the model."""
    repo = root / folder_name(model_id)
    names = [FOLDER, EVICTING.format("*")]
    return [f.relative_to(repo).as_posix() for name in names for f in repo.glob(name)]
