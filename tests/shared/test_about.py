"""What a worker says that it can run, and how busy it is; its models need no torch."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import handlers
from shared.about import AboutRunner, capabilities, constraints, named_first
from shared.capabilities import OfferedModel, WorkerLoad
from shared.device import Device
from shared.hardware import Cards
from shared.job import Event, Job, Piece
from shared.models.pool import Pool
from shared.runner import Runner
from shared.schemas import ModelSource
from shared.settings import Settings
from tests.shared.models.folders import write_files
from tests.shared.nvml import Driver, Silicon

WAIT_S = 60
HANDLERS = Path(__file__).parent / "text_handlers"
HOLD = {"pipeline": "recite", "words": ["a", "b"]}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models.json: two models of one pipeline, the second with a price, one that is nowhere, one of no use."""
    folder = tmp_path_factory.mktemp("about")
    entries = [
        {"pipeline": "meet", "model_id": str(write_files(folder / "first")), "gpu_memory_gb": 0.5},
        {
            "pipeline": "meet",
            "model_id": str(write_files(folder / "second")),
            "price_per_unit": 1.2,
            "pixels_per_unit": 1000,
            "currency": "USD",
            "capacity": 4,
        },
        {"pipeline": "meet", "model_id": "ours/nowhere", "revision": "a" * 40, "pinned": True},
        {"pipeline": "recite", "model_id": "ours/words", "defaults": {"most": 5}},
    ]
    file = folder / "models.json"
    file.write_text(json.dumps(entries))
    return file


def make(models: Path, **more: Any) -> Runner:
    return Runner(Settings(models=models, device="cpu", queue_max=3, **more), handlers.Folders(HANDLERS))


@pytest.fixture
def runner(models: Path) -> Iterator[Runner]:
    runner = make(models, model_dir=models.parent / "volume")
    yield runner
    runner.lane.close()


def offered(runner: Runner, pipeline: str = "meet") -> list[OfferedModel]:
    return next(c.models for c in capabilities(runner).capabilities if c.pipeline == pipeline)


def load_of(runner: Runner) -> WorkerLoad:
    return capabilities(runner).load


def test_every_pipeline_is_told_with_its_models_in_the_lists_order(runner: Runner, models: Path) -> None:
    told = capabilities(runner)
    assert [c.pipeline for c in told.capabilities] == ["meet", "recite"]
    ids = [str(models.parent / "first"), str(models.parent / "second"), "ours/nowhere"]
    assert [m.model_id for m in offered(runner)] == ids
    assert [m.default for m in offered(runner)] == [True, False, False]
    assert [m.revision for m in offered(runner)] == ["main", "main", "a" * 40]
    assert (told.worker, offered(runner)[0].gpu_memory_gb) == ("local", 0.5)


def test_a_worker_of_one_model_tells_of_nothing_else(models: Path) -> None:
    second = str(models.parent / "second")
    narrowed = make(models, pipeline="meet", model_id=second)
    (only,) = capabilities(narrowed).capabilities
    assert [(m.model_id, m.default) for m in only.models] == [(second, True)]
    assert named_first(narrowed) == ("meet", second)


def test_of_two_entries_with_one_id_the_one_that_jobs_get_is_told(tmp_path: Path) -> None:
    entries = [{"pipeline": "recite", "model_id": "a/b", "defaults": {"most": n}} for n in (3, 4)]
    (tmp_path / "models.json").write_text(json.dumps(entries))
    (told,) = offered(make(tmp_path / "models.json"), "recite")
    assert (told.default, told.constraints["most"].default) == (True, 3)


def test_a_model_is_warm_once_a_job_has_loaded_it_and_while_the_pool_holds_it(runner: Runner) -> None:
    assert [m.warm for m in offered(runner)] == [False, False, False]
    assert offered(runner)[0].footprint_bytes is None
    runner.submit(Job("job", {"pipeline": "meet", "wait": False})).result(WAIT_S)
    assert [m.warm for m in offered(runner)] == [True, False, False]
    assert offered(runner)[0].footprint_bytes is not None
    runner.pool.free(everything=True)
    assert [m.warm for m in offered(runner)] == [False, False, False]


def test_a_model_pinned_to_another_commit_than_the_warm_one_is_cold(runner: Runner) -> None:
    load = runner.registry.get("meet").load
    assert load is not None
    with runner.pool.acquire(load, ModelSource("ours/nowhere", "b" * 40, Path("/nowhere"))):
        assert [m.warm for m in offered(runner)] == [False, False, False]
    with runner.pool.acquire(load, ModelSource("ours/nowhere", "a" * 40, Path("/nowhere"))):
        assert [m.warm for m in offered(runner)] == [False, False, True]


def test_a_model_that_another_pipeline_has_loaded_in_its_own_way_is_cold(runner: Runner, models: Path) -> None:
    def load(source: ModelSource, device: Device) -> object:
        return object()

    with runner.pool.acquire(load, ModelSource(str(models.parent / "first"), "main", Path("/nowhere"))):
        assert [m.warm for m in offered(runner)] == [False, False, False]


def test_the_document_is_told_while_a_model_is_being_loaded(runner: Runner) -> None:
    loading, go_on = threading.Event(), threading.Event()

    def load(source: ModelSource, device: Device) -> object:
        loading.set()
        assert go_on.wait(WAIT_S)
        return object()

    def use(pool: Pool) -> None:
        with pool.acquire(load, ModelSource("slow", "main", Path("/nowhere"))):
            pass

    thread = threading.Thread(target=use, args=(runner.pool,), daemon=True)
    thread.start()
    assert loading.wait(WAIT_S)
    told: list[OfferedModel] = []
    asking = threading.Thread(target=lambda: told.extend(offered(runner)), daemon=True)
    asking.start()
    asking.join(WAIT_S / 4)
    go_on.set()
    thread.join(WAIT_S)
    assert len(told) == 3


def test_a_price_is_told_where_one_is_set_in_the_unit_of_the_pipeline(runner: Runner) -> None:
    first, second, _ = offered(runner)
    assert first.price is None
    assert second.price is not None
    assert second.price.model_dump() == {
        "per_unit": 1.2,
        "unit": "token",
        "pixels_per_unit": 1000,
        "currency": "USD",
    }
    assert (first.capacity, second.capacity) == (None, 4)


def test_pictures_are_priced_by_the_pixel(tmp_path: Path) -> None:
    entry = {"pipeline": "text-to-image", "model_id": "demo/text-to-image", "price_per_unit": 0}
    (tmp_path / "models.json").write_text(json.dumps([entry]))
    drawing = Runner(Settings(models=tmp_path / "models.json", device="cpu"), handlers.Folders())
    (model,) = offered(drawing, "text-to-image")
    assert model.price is not None
    assert (model.price.per_unit, model.price.unit, model.price.currency) == (0, "pixel", "wei")


def test_bounds_are_those_of_the_parameters_and_defaults_those_of_the_model() -> None:
    params = handlers.get("text-to-image").params
    told = constraints(params, {"width": 64, "prompt": "a circle"})
    assert told["width"].model_dump(exclude_none=True) == {
        "minimum": 64,
        "maximum": 2048,
        "multiple_of": 8,
        "default": 64,
    }
    assert told["height"].default == 512
    assert told["image_format"].enum == ["png", "jpeg", "webp"]
    assert told["seed"].model_dump(exclude_none=True).keys() == {"minimum", "maximum"}
    assert not {"prompt", "loras", "preview", "model_id"} & told.keys()


@pytest.mark.parametrize("pipeline", handlers.names())
def test_the_bounds_of_every_pipeline_can_be_told(pipeline: str) -> None:
    params = handlers.get(pipeline).params
    told = constraints(params, {})
    defaults = {name: params.model_fields[name].default for name in told}
    assert {name: told[name].default for name in told} == defaults


def test_load_is_what_runs_what_waits_and_how_long_both_take(runner: Runner) -> None:
    assert load_of(runner).model_dump() == {
        "running": 0,
        "waiting": 0,
        "backlog_s": 0.0,
        "capacity": 1,
        "queue_max": 3,
    }
    said, go_on = threading.Event(), threading.Event()

    def hold(event: Event) -> None:
        if isinstance(event, Piece):
            said.set()
            assert go_on.wait(WAIT_S)

    first = runner.submit(Job("first", HOLD, events=hold))
    assert said.wait(WAIT_S)
    second = runner.submit(Job("second", HOLD))
    load = load_of(runner)
    assert (load.running, load.waiting, load.backlog_s) == (1, 1, None)
    go_on.set()
    first.result(WAIT_S)
    second.result(WAIT_S)
    assert (load_of(runner).running, load_of(runner).waiting) == (0, 0)


def test_hardware_names_the_worker_and_its_cards(runner: Runner, models: Path) -> None:
    about = AboutRunner(runner, Cards("1", Driver([Silicon("GPU-aa11"), Silicon("GPU-bb22")])))
    info, stats = about.hardware_info(), about.hardware_stats()
    assert (
        (info.pipeline, info.model_id) == (stats.pipeline, stats.model_id) == ("meet", str(models.parent / "first"))
    )
    assert AboutRunner(runner, Cards(nvml=Driver([])), "llm").hardware_info().pipeline == "llm"
    assert (info.gpu_info[0].id, stats.gpu_stats[0].id) == ("GPU-bb22", "GPU-bb22")
