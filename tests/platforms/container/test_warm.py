"""POST /warm of the container: a model is there before its first job."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.platforms.container.box import Box
from tests.platforms.extra_handlers.ruin import MESSAGES
from tests.platforms.harness import until
from tests.platforms.rack import HANDLERS
from tests.shared.models.folders import write_files


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """A container with three models, torch-free."""
    folder = tmp_path_factory.mktemp("warm")
    ids = [str(write_files(folder / name)) for name in ("first", "second", "broken")]
    (folder / "broken" / "broken").touch()
    (folder / "models.json").write_text(json.dumps([{"pipeline": "census", "model_id": each} for each in ids]))
    with Box(folder, models=folder / "models.json", handlers=HANDLERS) as box:
        yield box


def ids(box: Box) -> list[str]:
    return [entry.model_id for entry in box.runner.planner.catalog.entries]


def warm(box: Box) -> list[str]:
    """The models that the container says are warm."""
    models = [m for each in box.get("/capabilities").json()["capabilities"] for m in each["models"]]
    return [model["model_id"] for model in models if model["warm"]]


def test_a_model_is_warm_before_its_first_job(box: Box) -> None:
    assert warm(box) == []
    assert box.ok("/warm", {"pipeline": "census"}) == {"status": "WARM"}
    assert warm(box) == ids(box)[:1]
    assert box.ok("/warm", {"pipeline": "census", "model_id": ids(box)[0]}) == {"status": "WARM"}
    polled = [box.post("/warm", {"pipeline": "census"}, params={"wait": 0}).json() for _ in range(20)]
    assert polled == [{"status": "WARM"}] * 20


def test_a_model_that_cannot_be_loaded_says_so(box: Box) -> None:
    answer = box.post("/warm", {"pipeline": "census", "model_id": ids(box)[2]})
    assert answer.status_code == 500
    assert "cannot be loaded" not in answer.text
    assert answer.json()["detail"]["code"] == "internal"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"pipeline": "census", "model_id": "nobody/knows"}, 400),
        ({"pipeline": "nonsense"}, 404),
        ({"model_id": "x"}, 422),
        ({"pipeline": "census", "more": 1}, 422),
        ([], 422),
    ],
)
def test_what_is_no_model_here_is_refused(box: Box, body: Any, status: int) -> None:
    assert box.post("/warm", body).status_code == status


def test_a_load_that_takes_longer_than_the_wait_goes_on(box: Box) -> None:
    gate = Path(ids(box)[0]).parent / "open"
    running = box.later("/census", {"gate": str(gate)})
    until(lambda: box.get("/capabilities").json()["load"]["running"])
    answer = box.post("/warm", {"pipeline": "census", "model_id": ids(box)[1]}, params={"wait": 0})
    assert (answer.status_code, answer.json()) == (202, {"status": "LOADING"})
    assert ids(box)[1] not in warm(box)
    gate.touch()
    assert running.result().status_code == 200
    until(lambda: ids(box)[1] in warm(box))


def one_model(folder: Path, *, warm: bool = False, **settings: Any) -> tuple[Path, Box]:
    """A model's folder, and a container that has it alone."""
    model = write_files(folder / "model")
    entry = {"pipeline": "census", "model_id": str(model), "warm": warm}
    (folder / "models.json").write_text(json.dumps([entry]))
    return model, Box(folder, models=folder / "models.json", handlers=HANDLERS, **settings)


def test_a_model_that_costs_the_device_ends_the_container(tmp_path: Path) -> None:
    """Else no job would ever run there, and the probes would go on calling it healthy."""
    model, box = one_model(tmp_path)
    (model / "broken").write_text(MESSAGES["device_lost"])
    with box:
        lost = box.post("/warm", {"pipeline": "census"})
        assert (lost.status_code, lost.json()["detail"]["retryable"]) == (500, True)
        assert box.ended() == 1


@pytest.mark.parametrize("is_at_the_start", [False, True])
def test_a_load_that_does_not_end_ends_the_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_at_the_start: bool
) -> None:
    """Nothing would ever get the device again, and the probes would call it healthy, or loading, for ever."""
    monkeypatch.setattr("platforms.container.server.LOOK_EVERY_S", 0.02)
    monkeypatch.setattr("platforms.container.server.TOLD_S", 0.3)
    model, box = one_model(tmp_path, warm=is_at_the_start, load_timeout_s=0.1)
    (model / "slow").touch()
    box.start()
    if not is_at_the_start:
        until(lambda: box.server.health.is_ready)
        warming = box.later("/warm", {"pipeline": "census"})
        until(box.server.warming.is_loading)
    answers = [box.later("/census", {})] + ([] if is_at_the_start else [warming])
    for answer in answers:
        detail = answer.result(20).json()["detail"]
        assert (detail["code"], detail["retryable"]) == ("model_unavailable", True)
        assert "LOAD_TIMEOUT_S" in detail["msg"]
    assert (box.ended(), box.server.is_stuck) == (1, True)
    (model / "slow").unlink()


def test_a_container_that_stops_does_not_wait_for_a_load(tmp_path: Path) -> None:
    model, box = one_model(tmp_path)
    (model / "slow").touch()
    with box:
        warming = box.later("/warm", {"pipeline": "census"})
        until(box.server.warming.is_loading)
        box.stop()
        answer = warming.result(20)
        assert (answer.status_code, answer.json()["detail"]["code"]) == (503, "insufficient_capacity")
        assert (box.ended(), box.server.is_stuck) == (0, True)
        (model / "slow").unlink()
