"""What Prometheus reads: jobs by outcome, seconds by stage, load, models and cards; read with its own parser."""

import json
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import parser
from prometheus_client.openmetrics import parser as openmetrics

import handlers
from shared.device import Device
from shared.errors import ENDINGS, QueueFull
from shared.hardware import Cards
from shared.job import Job
from shared.metrics import JobMetrics
from shared.runner import Runner
from shared.schemas import Handler, ModelSource
from shared.settings import Settings
from shared.telemetry import BOUNDS_S, Telemetry
from tests.shared.models.folders import write_files
from tests.shared.nvml import GIB, Driver, Silicon

WAIT_S = 60
HANDLERS = Path(__file__).parent / "text_handlers"
RECITE = {"pipeline": "recite"}


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[Runner]:
    model = str(write_files(tmp_path / "model"))
    models = tmp_path / "models.json"
    models.write_text(json.dumps([{"pipeline": name, "model_id": model} for name in ("meet", "recite")]))
    runner = Runner(Settings(models=models, device="cpu"), handlers.Folders(HANDLERS))
    yield runner
    runner.lane.close()


@pytest.fixture
def telemetry(runner: Runner) -> Telemetry:
    cards = [Silicon("GPU-aa11"), Silicon("GPU-bb22", total=None, rates=None)]
    return Telemetry(runner, Cards(nvml=Driver(cards)))


def read(telemetry: Telemetry) -> dict[tuple[str, tuple[str, ...]], float]:
    """Every sample by its name and its labels' values, these in the order of their names."""
    text, _ = telemetry.exposition()
    samples = [s for family in parser.text_string_to_metric_families(text.decode()) for s in family.samples]
    return {(s.name, tuple(s.labels[name] for name in sorted(s.labels))): s.value for s in samples}


def end(runner: Runner, **given: object) -> None:
    """Run a job to its end, whichever that is."""
    future = runner.submit(Job("job", {**RECITE, **given}))
    assert future.exception(WAIT_S) is None or isinstance(future.exception(), ENDINGS)


def test_jobs_are_counted_by_pipeline_and_outcome(runner: Runner, telemetry: Telemetry) -> None:
    assert read(telemetry)["pilotlight_jobs_total", ("completed", "recite")] == 0
    end(runner)
    end(runner)
    end(runner, most=0)
    cancelled = Job("job", RECITE)
    cancelled.cancel.cancel("enough")
    runner.submit(cancelled).exception(WAIT_S)
    counted = {k[1]: v for k, v in read(telemetry).items() if k[0] == "pilotlight_jobs_total"}
    assert counted == {
        ("completed", "meet"): 0,
        ("completed", "recite"): 2,
        ("invalid_input", "recite"): 1,
        ("cancelled", "recite"): 1,
    }


def test_the_time_of_a_run_that_failed_is_told_too(runner: Runner, telemetry: Telemetry) -> None:
    end(runner, fail_at=1, fail="once its first word was told")
    told = read(telemetry)
    assert told["pilotlight_jobs_total", ("out_of_memory", "recite")] == 1
    assert told["pilotlight_stage_seconds_count", ("recite", "run")] == 1


def test_names_that_jobs_make_up_are_one_label(runner: Runner, telemetry: Telemetry) -> None:
    for name in ("made-up", "made-up-too", 'quo"te\n'):
        end(runner, pipeline=name)
    text, _ = telemetry.exposition()
    assert b"made-up" not in text
    assert b"quo" not in text
    assert read(telemetry)["pilotlight_jobs_total", ("invalid_input", "unknown")] == 3


def test_requests_that_never_became_jobs_are_counted_by_reason(telemetry: Telemetry) -> None:
    key = ("pilotlight_refused_requests_total", (QueueFull.code,))
    assert read(telemetry)[key] == 0
    telemetry.refused(QueueFull.code)
    assert read(telemetry)[key] == 1


class Rehearsed(handlers.Folders):
    """Handlers that say something when they are warmed."""

    def get(self, name: str) -> Handler:
        return replace(super().get(name), warmup={"wait": False})


def test_the_run_that_warms_a_model_is_no_job(tmp_path: Path) -> None:
    entry = {"pipeline": "meet", "model_id": str(write_files(tmp_path / "model")), "warm": True}
    (tmp_path / "models.json").write_text(json.dumps([entry]))
    runner = Runner(Settings(models=tmp_path / "models.json", device="cpu"), Rehearsed(HANDLERS))
    telemetry = Telemetry(runner, Cards(nvml=Driver([])))
    runner.warm()
    end(runner, pipeline="meet", wait=False)
    counted = read(telemetry)
    assert counted["pilotlight_jobs_total", ("completed", "meet")] == 1
    assert counted["pilotlight_stage_seconds_count", ("meet", "run")] == 1
    assert read(telemetry)["pilotlight_cold_start_seconds", ("warm",)] > 0
    runner.lane.close()


def test_seconds_are_spread_over_buckets_by_stage(telemetry: Telemetry) -> None:
    metrics = JobMetrics()
    metrics.add("run", 0.7)
    metrics.add("made up", 1.0)
    telemetry.ended("recite", "completed", metrics)
    metrics.add("run", 5000.0)
    telemetry.ended("recite", "cancelled", metrics)
    samples = read(telemetry)
    buckets = {key[1][0]: v for key, v in samples.items() if key[0] == "pilotlight_stage_seconds_bucket"}
    assert buckets == {**{str(b): float(b >= 0.7) for b in BOUNDS_S}, "+Inf": 2.0}
    assert samples["pilotlight_stage_seconds_count", ("recite", "run")] == 2
    assert samples["pilotlight_stage_seconds_sum", ("recite", "run")] == pytest.approx(5001.4)


def test_a_time_on_a_bound_belongs_to_its_bucket(telemetry: Telemetry) -> None:
    metrics = JobMetrics()
    metrics.add("run", 1.0)
    telemetry.ended("recite", "completed", metrics)
    assert read(telemetry)["pilotlight_stage_seconds_bucket", ("1.0", "recite", "run")] == 1


def test_a_jobs_stages_are_told(runner: Runner, telemetry: Telemetry) -> None:
    end(runner)
    samples = read(telemetry)
    told = {key[1][1] for key in samples if key[0] == "pilotlight_stage_seconds_count"}
    assert told >= {"queue", "run", "deliver"}


def test_files_that_ended_too_soon_are_counted(telemetry: Telemetry) -> None:
    metrics = JobMetrics()
    metrics.note(truncated_input=True)
    telemetry.ended("recite", "completed", metrics)
    telemetry.ended("recite", "completed", JobMetrics())
    assert read(telemetry)["pilotlight_truncated_inputs_total", ("recite",)] == 1


def test_models_are_told_while_they_are_warm(runner: Runner, telemetry: Telemetry, tmp_path: Path) -> None:
    assert read(telemetry)["pilotlight_warm_models", ()] == 0
    end(runner, pipeline="meet", wait=False)
    samples = read(telemetry)
    assert samples["pilotlight_warm_models", ()] == 1
    assert samples["pilotlight_warm_model_bytes", (str(tmp_path / "model"),)] >= 0
    runner.pool.free(everything=True)
    assert ("pilotlight_warm_model_bytes", (str(tmp_path / "model"),)) not in read(telemetry)


def test_a_model_that_only_a_job_named_is_no_label(runner: Runner, telemetry: Telemetry) -> None:
    def load(source: ModelSource, device: Device) -> object:
        return object()

    with runner.pool.acquire(load, ModelSource("theirs/any", "main", Path("/nowhere"))):
        text, _ = telemetry.exposition()
    assert b"theirs/any" not in text
    assert b'pilotlight_warm_model_bytes{model="unknown"}' in text


def test_load_and_start_are_told(runner: Runner, telemetry: Telemetry) -> None:
    runner.starting.add("warm", 2.5)
    samples = read(telemetry)
    for place in ("device", "nodes"):
        assert samples["pilotlight_jobs_running", (place,)] == samples["pilotlight_jobs_waiting", (place,)] == 0
    assert samples["pilotlight_backlog_seconds", ()] == 0
    assert samples["pilotlight_slots", ()] == 1
    assert samples["pilotlight_cold_start_seconds", ("warm",)] == 2.5
    assert any(name == "pilotlight_worker_info" and "local" in labels for name, labels in samples)
    assert samples["process_resident_memory_bytes", ()] > 0


def test_a_job_on_a_node_is_told_as_running_there(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        entry = {"pipeline": "meet", "model_id": "a/b", "url": f"http://127.0.0.1:{silent.getsockname()[1]}"}
        (tmp_path / "models.json").write_text(json.dumps([entry]))
        runner = Runner(Settings(models=tmp_path / "models.json", device="cpu"), handlers.Folders(HANDLERS))
        telemetry = Telemetry(runner, Cards(nvml=Driver([])))
        ended = runner.submit(Job("job", {"pipeline": "meet"}))
        until = time.monotonic() + WAIT_S
        while read(telemetry)["pilotlight_jobs_running", ("nodes",)] == 0:
            assert time.monotonic() < until
        assert read(telemetry)["pilotlight_jobs_running", ("device",)] == 0
    assert isinstance(ended.exception(WAIT_S), ENDINGS)
    assert read(telemetry)["pilotlight_jobs_running", ("nodes",)] == 0


def test_cards_are_told_by_number_with_what_they_tell(telemetry: Telemetry) -> None:
    samples = read(telemetry)
    memory = {k: samples[f"pilotlight_gpu_memory_{k}_bytes", ("0",)] for k in ("total", "free", "used")}
    assert memory == {"total": 24 * GIB, "free": 20 * GIB, "used": 4 * GIB}
    assert samples["pilotlight_gpu_utilization_ratio", ("0",)] == 0.5
    assert samples["pilotlight_gpu_info", ("1", "GPU-bb22", "NVIDIA Test")] == 1
    assert ("pilotlight_gpu_memory_free_bytes", ("1",)) not in samples
    assert ("pilotlight_gpu_utilization_ratio", ("1",)) not in samples


def test_two_workers_in_a_process_count_for_themselves(runner: Runner, telemetry: Telemetry) -> None:
    other = Telemetry(Runner(runner.settings, runner.registry), Cards(nvml=Driver([])))
    end(runner)
    key = ("pilotlight_jobs_total", ("completed", "recite"))
    assert (read(telemetry)[key], read(other)[key]) == (1, 0)


def test_openmetrics_is_told_to_those_that_ask_for_it(runner: Runner, telemetry: Telemetry) -> None:
    end(runner)
    text, media_type = telemetry.exposition("application/openmetrics-text; version=1.0.0")
    assert media_type.startswith("application/openmetrics-text")
    families = {f.name for f in openmetrics.text_string_to_metric_families(text.decode())}  # type: ignore[no-untyped-call]
    assert {"pilotlight_jobs", "pilotlight_stage_seconds", "pilotlight_gpu"} <= families
    for accept in ("*/*", "application/openmetrics-text; version=x", "text/plain; version=1.x; escaping=y"):
        assert telemetry.exposition(accept)[1].startswith("text/plain")
