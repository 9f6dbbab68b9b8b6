"""Which worker a job needs, how large it is, and what the driver tells of the cards; without a process."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pynvml
import pytest

import handlers
from platforms.local.deployments import Deployment, Deployments
from platforms.local.gpus import Driver, Gpu
from platforms.local.sizes import Sizes
from shared.errors import InvalidInput, NotFound
from shared.hardware import Cards
from shared.plan import Planner
from shared.settings import Settings
from tests.platforms.rack import GB, HANDLERS
from tests.shared import nvml

TEXT = Path(__file__).parents[1] / "shared" / "text_handlers"


def deployments(folder: Path, models: list[dict[str, Any]], *, extra: Path = HANDLERS, **more: Any) -> Deployments:
    listed = [{"pipeline": "census", **model} for model in models]
    (folder / "models.json").write_text(json.dumps(listed))
    settings = Settings(models=folder / "models.json", handlers=extra, **more)
    return Deployments("media", Planner(settings, handlers.Folders(extra)), (0, 1))


ONE, TWO = {"model_id": "a/one"}, {"model_id": "a/two"}
REMOTE = {"model_id": "a/far", "url": "https://node.example"}


def needed(given: Deployments, job_input: dict[str, Any]) -> list[str]:
    return given.of_job(job_input).models


def test_jobs_go_to_their_model_or_the_first_one(tmp_path: Path) -> None:
    given = deployments(tmp_path, [ONE, TWO, {**TWO, "pipeline": "second-census"}])
    assert needed(given, {"pipeline": "census"}) == ["a/one@main"]
    assert needed(given, {"pipeline": "census", "model_id": "a/two"}) == ["a/two@main"]
    assert needed(given, {"pipeline": "second-census"}) == ["a/two@main"]
    assert needed(given, {"pipeline": "errand"}) == []
    assert [entry.pipeline for entry in given.of_model("census", "a/two").entries] == ["census", "second-census"]


def test_a_chain_needs_all_of_its_models_in_one_worker_in_the_order_of_the_list(tmp_path: Path) -> None:
    given = deployments(tmp_path, [ONE, TWO])
    both = {"pipeline": "errand", "models": ["a/two", "a/one"]}
    chain = given.of_job(both)
    assert chain.models == ["a/one@main", "a/two@main"]
    assert chain.key == given.of_job({**both, "models": ["a/one", "a/two"]}).key
    assert not chain.warm


def test_what_nodes_run_needs_no_model_here_and_any_worker_can_ask_them(tmp_path: Path) -> None:
    given = deployments(tmp_path, [REMOTE, ONE])
    far = given.of_job({"pipeline": "census"})
    assert (far.models, [e.model_id for e in far.entries]) == ([], ["a/far"])
    assert [e.model_id for e in given.of_job({"pipeline": "census", "model_id": "a/one"}).entries] == [
        "a/far",
        "a/one",
    ]
    assert list(given.listed) == [given.of_model("census", "a/one").key]


def test_any_model_of_the_hub_has_a_worker_where_that_is_allowed(tmp_path: Path) -> None:
    given = deployments(tmp_path, [ONE], allow_any_model=True)
    assert needed(given, {"pipeline": "census", "model_id": "who/knows"}) == ["who/knows@main"]


def test_a_model_is_warm_and_kept_as_the_most_demanding_of_its_pipelines_says(tmp_path: Path) -> None:
    entries = [{**ONE, "idle_s": 20}, {**ONE, "pipeline": "second-census", "idle_s": 5, "warm": True, "gpu": 1}]
    found = deployments(tmp_path, entries).of_model("census", None)
    assert (found.warm, found.idle_s, found.card) == (True, 20, 1)
    assert deployments(tmp_path, []).of_job({"pipeline": "errand"}).idle_s == 300


def test_a_worker_loads_each_of_its_models_once_before_it_asks_for_jobs(tmp_path: Path) -> None:
    second = {"pipeline": "second-census"}
    given = deployments(tmp_path, [ONE, {**ONE, **second}, TWO, {**TWO, **second, "warm": True}, REMOTE])
    loaded = [(e.model_id, e.pipeline) for e in chain(given).listed() if e.warm]
    assert loaded == [("a/one", "census"), ("a/two", "second-census")]


def test_pins_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="pins a/one to cards 0, 1; one worker needs one card"):
        deployments(tmp_path, [{**ONE, "gpu": 0}, {**ONE, "pipeline": "second-census", "gpu": 1}])
    apart = deployments(tmp_path, [{**ONE, "gpu": 0}, {**TWO, "gpu": 1}])
    with pytest.raises(InvalidInput, match="pins a/one and a/two to cards 0, 1"):
        apart.of_job({"pipeline": "errand", "models": ["a/one", "a/two"]})


def test_whoever_asks_which_models_there_are_needs_no_worker(tmp_path: Path) -> None:
    models = [{"pipeline": "recite", **ONE}, {"pipeline": "recite", **TWO}, {"pipeline": "upscale", **TWO}]
    given = deployments(tmp_path, models, extra=TEXT)
    answer = given.answer({"openai_route": "/v1/models"})
    assert [model["id"] for model in answer["data"]] == ["a/one", "a/two"]
    assert given.answer({"pipeline": "recite"}) is None
    with pytest.raises(NotFound):
        given.answer({"openai_route": "/v1/models/a/three"})
    (streamed,) = deployments(tmp_path, models[:2], extra=TEXT).answer({"openai_route": "/v1/models"})
    assert streamed["object"] == "list"  # a worker that writes text would have yielded it


@pytest.mark.parametrize(
    ("model_id", "name"),
    [("a/some_Model.v1", "some-Model-v1"), ("a/b/file.q4.gguf", "file-q4-gguf"), ("/folder/ünïcode", "n-code")],
)
def test_its_name_can_stand_in_a_url_and_in_a_file_name(tmp_path: Path, model_id: str, name: str) -> None:
    assert deployments(tmp_path, [{"model_id": model_id}]).of_model("census", None).name == name


def sized(folder: Path, *entries: dict[str, Any]) -> tuple[Sizes, Deployments]:
    return Sizes(folder / "sizes.json"), deployments(folder, list(entries))


def chain(given: Deployments) -> Deployment:
    return given.of_job({"pipeline": "errand", "models": ["a/one", "a/two"]})


def test_a_size_is_the_one_seen_else_the_one_said(tmp_path: Path) -> None:
    more = {**ONE, "pipeline": "second-census", "gpu_memory_gb": 6}
    sizes, given = sized(tmp_path, {**ONE, "gpu_memory_gb": 4}, more, TWO)
    one, two = (given.of_model("census", name) for name in ("a/one", "a/two"))
    assert (sizes.of(one, 24 * GB), sizes.of(two, 24 * GB)) == (6 * GB, None)
    sizes.note(one, 5 * GB)
    sizes.note(one, 3 * GB)  # the most counts
    assert Sizes(tmp_path / "sizes.json").of(one, 24 * GB) == 5 * GB


@pytest.mark.parametrize("damaged", ["", '{"a": 1', "[]", "null", '{"a": "1 GB"}', '{"a": -1}', "\udcff"])
def test_sizes_that_cannot_be_read_are_measured_anew(tmp_path: Path, damaged: str) -> None:
    (tmp_path / "sizes.json").write_bytes(damaged.encode(errors="surrogateescape"))
    sizes, given = sized(tmp_path, {**ONE, "gpu_memory_gb": 4})
    one = given.of_model("census", "a/one")
    assert sizes.of(one, 24 * GB) == 4 * GB
    sizes.note(one, 5 * GB)
    assert Sizes(tmp_path / "sizes.json").of(one, 24 * GB) == 5 * GB


@pytest.mark.parametrize(("said_gb", "expected"), [(None, None), (4, None), (20, 22 * GB)])
def test_what_was_seen_on_a_larger_card_alone_refuses_nothing(
    tmp_path: Path, said_gb: int | None, expected: int | None
) -> None:
    sizes, given = sized(tmp_path, {**ONE, **({"gpu_memory_gb": said_gb} if said_gb else {})})
    one = given.of_model("census", "a/one")
    sizes.note(one, 22 * GB)
    assert (sizes.of(one, 24 * GB), sizes.of(one, 16 * GB)) == (22 * GB, expected)


def test_a_chain_is_as_large_as_its_models_together_or_has_the_card(tmp_path: Path) -> None:
    sizes, given = sized(tmp_path, {**ONE, "gpu_memory_gb": 10}, {**TWO, "gpu_memory_gb": 8})
    assert sizes.of(chain(given), 24 * GB) == 18 * GB
    sizes.note(given.of_model("census", "a/two"), 4 * GB)
    assert sizes.of(chain(given), 24 * GB) == 14 * GB
    assert sizes.of(chain(given), 12 * GB) is None
    assert sizes.of(chain(given), 9 * GB) == 14 * GB  # one of them alone is too large, so that it will be refused
    sizes.note(chain(given), 11 * GB)
    assert sizes.of(chain(given), 12 * GB) == 11 * GB


def test_the_driver_tells_of_every_card_what_it_can() -> None:
    told = nvml.Silicon("GPU-aa11", 24 * GB, 19 * GB, processes={7: 4 * GB, 8: None})
    shy = nvml.Silicon("GPU-bb22", 24 * GB, 18 * GB)
    first, second = Driver(Cards(nvml=nvml.Driver([told, shy]))).read()
    assert first == Gpu(0, "NVIDIA Test", 24 * GB, 5 * GB, {7: 4 * GB, 8: 0})
    assert (second.number, second.used, second.processes) == (1, 6 * GB, {})


def test_a_card_that_is_lost_is_left_out_and_the_others_keep_their_numbers() -> None:
    lost, other = nvml.Silicon("GPU-aa11"), nvml.Silicon("GPU-bb22")
    driver = Driver(Cards(nvml=nvml.Driver([lost, other])))
    lost.is_lost = True
    assert [gpu.number for gpu in driver.read()] == [1]


def test_without_a_driver_it_says_what_to_do() -> None:
    with pytest.raises(InvalidInput, match="leave --gpus out to run on the CPU"):
        Driver(Cards(nvml=nvml.Driver([], broken=pynvml.NVMLError_LibraryNotFound)))


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="this machine has cards")
def test_up_on_cards_that_are_not_there_ends_with_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "platforms.cli", "up", "--gpus", "0", "--data", str(tmp_path / "data")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert "invalid_input: --gpus: this machine has no NVIDIA card" in ended.stderr
    assert "Traceback" not in ended.stderr
