"""What a worker serves, and what it reads, imports and loads before its first job."""

import gc
import json
import subprocess
import sys
from pathlib import Path

import pytest

import handlers
from shared.errors import InvalidInput, NotFound
from shared.runner import Runner
from shared.settings import Settings
from tests.shared.models.folders import write_cached
from tests.shared.runners import CHANGE, DEMO, DRAW, EXTRA, PAINT, ROOT, SMALL, Events, make, run


def test_a_worker_of_one_pipeline_needs_no_name(models: Path) -> None:
    only = make(models, pipeline="text-to-image")
    assert only.planner.pipelines == ["text-to-image"]
    assert run(only, DRAW, {"pipeline": None})["receipt"]["pipeline"] == "text-to-image"
    with pytest.raises(InvalidInput, match="does not serve 'paint'; it serves: text-to-image"):
        run(only, PAINT)


def test_serves_what_has_a_model_and_what_needs_none(runner: Runner) -> None:
    assert runner.planner.pipelines == [
        *("text-to-image", "image-to-image", "trouble"),
        *("diptych", "mirror", "paint", "workflow"),
    ]


def test_a_worker_without_models_imports_no_torch(tmp_path: Path) -> None:
    (tmp_path / "models.json").write_text("[]")
    code = """
import sys
from pathlib import Path
import handlers
from shared.job import Job
from shared.runner import Runner
from shared.settings import Settings
runner = Runner(Settings(models=Path(sys.argv[1])), handlers.Folders(Path(sys.argv[2])))
runner.warm()
runner.submit(Job("job", {"pipeline": "paint"})).result()
print([name for name in ("torch", "diffusers", "transformers", "huggingface_hub") if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "models.json"), str(EXTRA)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def test_a_list_that_names_a_pipeline_without_a_handler_is_refused_at_the_start(tmp_path: Path) -> None:
    file = tmp_path / "models.json"
    file.write_text('[{"pipeline": "music", "model_id": "ours/other"}]')
    with pytest.raises(NotFound, match=r"no pipeline 'music'; there are: .*text-to-image"):
        make(file)


@pytest.mark.parametrize("pipeline", ["text-to-image", "image-to-image"])
def test_warm_models_are_loaded_before_the_first_job(tmp_path: Path, pipeline: str) -> None:
    file = tmp_path / "models.json"
    file.write_text(json.dumps([{"pipeline": pipeline, "model_id": DEMO, "defaults": SMALL, "warm": True}]))
    warm, events = Runner(Settings(models=file, device="cpu"), handlers.Folders()), Events()
    frozen = gc.get_freeze_count()
    warm.warm()
    assert (gc.isenabled(), gc.get_freeze_count() > frozen) == (True, True)
    gc.unfreeze()  # the other tests' objects are not this worker's
    asked = DRAW if pipeline == "text-to-image" else CHANGE
    first = run(warm, asked, events=events)["metrics"]
    assert events.stages() == ["running", "delivering"]
    assert {"device_s", "warm_s", "models"} <= set(first["cold_start"])
    assert first["cold_start"]["models"][0]["files_s"] > 0
    assert not {"cold_start", "loading"} & set(run(warm, asked)["metrics"])


def test_the_job_that_loads_a_model_tells_where_the_time_went(tmp_path: Path) -> None:
    file = tmp_path / "models.json"
    file.write_text(json.dumps([{"pipeline": "text-to-image", "model_id": DEMO, "defaults": SMALL}]))
    cold = make(file)
    assert run(cold, DRAW)["metrics"]["loading"]["files_s"] > 0
    assert "loading" not in run(cold, DRAW)["metrics"]


def test_warm_models_on_a_network_volume_are_read_before_anything_is_imported(tmp_path: Path) -> None:
    file = tmp_path / "models.json"
    file.write_text(json.dumps([{"pipeline": "text-to-image", "model_id": DEMO, "defaults": SMALL, "warm": True}]))
    code = """
import sys
from pathlib import Path
import handlers
from shared.models import readahead, volumes
from shared.runner import Runner
from shared.settings import Settings
volumes.NETWORKS = ("",)
runner = Runner(Settings(models=Path(sys.argv[1]), device="cpu"), handlers.Folders())
runner.read_ahead()
assert "torch" not in sys.modules
(files,) = readahead._RUNNING
print(readahead.finish(files).whole, sorted({file.parent.name for file in files}))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(file)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "True ['text_encoder', 'unet', 'vae']"


KEEPER = """
from pathlib import Path
from shared.device import Device
from shared.models.readers import FOLDER
from shared.schemas import Context, Handler, ModelParams, ModelSource

class KeeperParams(ModelParams): ...

def load(source: ModelSource, device: Device) -> list[Path]:
    return list((source.path.parents[1] / FOLDER).glob(f"{source.revision}-*"))

def run(model: list[Path], params: KeeperParams, ctx: Context) -> None: ...

handler = Handler(params=KeeperParams, load=load, run=run)
"""


def test_a_warm_model_is_evicted_by_nobody_while_it_is_loaded(tmp_path: Path) -> None:
    """What the loader sees on the volume is what the workers beside it see."""
    write_cached(tmp_path / "volume", "ours/kept", "2" * 40, ref="main")
    file, folder = tmp_path / "models.json", tmp_path / "handlers"
    file.write_text(json.dumps([{"pipeline": "keeper", "model_id": "ours/kept", "warm": True}]))
    folder.mkdir()
    (folder / "keeper.py").write_text(KEEPER)
    worker = Runner(Settings(models=file, device="cpu", model_dir=tmp_path / "volume"), handlers.Folders(folder))
    worker.warm()
    loaded = worker.registry.get("keeper")
    source = worker.store.find(worker.planner.catalog.entries[0])
    assert loaded.load
    assert source
    with worker.pool.acquire(loaded.load, source) as shown:
        assert len(shown) == 1
