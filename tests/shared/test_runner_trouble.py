"""Jobs that fail while they run: what is tried again, what the caller hears, and what the log keeps."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.errors import DeadlineExceeded, DeviceLost, Internal, InvalidInput, OutOfMemory
from shared.job import Progress
from shared.runner import Runner
from tests.clock import Clock
from tests.lines import Lines
from tests.shared.runners import DRAW, make, run


@pytest.fixture
def troubled(models: Path) -> Iterator[tuple[Runner, Any]]:
    """A runner, and the class that counts the loads and runs of its `trouble` pipeline."""
    runner = make(models)
    counts = runner.registry.get("trouble").load.__globals__["Model"]  # type: ignore[union-attr]
    counts.loads = counts.runs = 0
    yield runner, counts
    runner.lane.close()


def test_out_of_memory_is_tried_once_more_on_the_same_model(troubled: tuple[Runner, Any]) -> None:
    runner, counts = troubled
    result = run(runner, {"pipeline": "trouble", "kind": "out of memory", "attempts": 1})
    assert (counts.runs, counts.loads) == (2, 1)
    assert result["metrics"]["runs"] == 2
    assert len(result["images"]) == 1
    assert result["receipt"]["steps"] == 1


def test_out_of_memory_twice_ends_that_job_alone_and_frees_its_model(troubled: tuple[Runner, Any]) -> None:
    runner, counts = troubled
    with pytest.raises(OutOfMemory, match="fewer or smaller images"):
        run(runner, {"pipeline": "trouble", "kind": "out of memory"})
    assert counts.runs == 2
    assert runner.pool.footprint() == {}
    assert run(runner, {"pipeline": "trouble"})["images"]
    assert counts.loads == 2


def test_a_second_attempt_gets_no_more_time_and_has_waited_no_longer(troubled: tuple[Runner, Any]) -> None:
    runner, _ = troubled
    clock = Clock()

    def three_seconds_a_step(progress: Progress) -> None:
        clock.now += 3.0 if progress.step else 0.0

    more: Any = {"events": three_seconds_a_step, "clock": clock}
    asked = {"pipeline": "trouble", "kind": "out of memory", "attempts": 1}
    assert run(runner, asked, **more, timeout_s=7.0)["metrics"]["queue_s"] == 0
    with pytest.raises(DeadlineExceeded):
        run(runner, {**asked, "attempts": 4}, **more, timeout_s=2.0)


def test_a_lost_device_ends_its_job_and_closes_the_lane(troubled: tuple[Runner, Any]) -> None:
    runner, counts = troubled
    with pytest.raises(DeviceLost):
        run(runner, {"pipeline": "trouble", "kind": "device lost"})
    assert runner.lane.broken
    assert counts.runs == 1


def test_an_internal_error_hides_its_cause_and_logs_it_under_an_id(
    troubled: tuple[Runner, Any], lines: Lines
) -> None:
    with pytest.raises(Internal) as caught:
        run(troubled[0], {"pipeline": "trouble", "kind": "bug", "secret": "sesame"})
    error_id = caught.value.detail["error_id"]
    assert error_id in caught.value.message
    assert "sesame" not in json.dumps(caught.value.as_dict())
    (logged,) = [record for record in lines.records if record.levelno >= logging.ERROR]
    assert vars(logged)["fields"] == {"job": "job", "error_id": error_id}
    assert logged.exc_info is not None
    assert "sesame" in repr(logged.exc_info[1])


def test_a_handlers_refusal_reaches_the_caller_as_it_is(troubled: tuple[Runner, Any]) -> None:
    with pytest.raises(InvalidInput, match="not this one"):
        run(troubled[0], {"pipeline": "trouble", "kind": "refusal"})


def test_a_prompt_is_never_in_the_log(runner: Runner, lines: Lines) -> None:
    run(runner, DRAW, {"prompt": "open sesame", "negative_prompt": "sesame street"})
    with pytest.raises(InvalidInput):
        run(runner, DRAW, {"prompt": "open sesame", "width": 7})
    with pytest.raises(InvalidInput):
        run(runner, DRAW, {"prompt": ["open sesame"]})
    assert "sesame" not in lines.text()
    stages = [record.getMessage() for record in lines.records]
    assert [stage for stage in stages if stage != "loaded"] == [
        "taken",
        "run",
        "delivered",
        "ended",
        "ended",
        "ended",
    ]
