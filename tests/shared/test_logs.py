"""The log: one line a stage, as JSON where nobody reads it on a terminal."""

import io
import json
import logging
from datetime import UTC, datetime
from pathlib import Path

import pytest

from shared import logs


@pytest.fixture
def log() -> io.StringIO:
    stream = io.StringIO()
    logs.set_up("INFO", stream)
    return stream


def test_a_stage_is_a_line_of_json_with_its_fields_and_its_time(log: io.StringIO) -> None:
    before = datetime.now(UTC)
    logs.stage("run", "job-1", pipeline="text-to-image", seconds=0.25)
    line = json.loads(log.getvalue())
    assert log.getvalue().endswith("}\n")
    when = datetime.fromisoformat(line.pop("time"))
    assert -1 < (before - when).total_seconds() < 60
    assert line == {
        "level": "INFO",
        "message": "run",
        "job": "job-1",
        "pipeline": "text-to-image",
        "seconds": 0.25,
    }


def test_each_line_has_the_time_of_its_own_second(log: io.StringIO) -> None:
    for created in (0.25, 1.5, 0.75):
        about = {"msg": "x", "levelno": logging.INFO, "created": created, "msecs": created % 1 * 1000}
        logs.logger.handle(logging.makeLogRecord(about))
    times = [json.loads(line)["time"] for line in log.getvalue().splitlines()]
    assert times == ["1970-01-01T00:00:00.250Z", "1970-01-01T00:00:01.500Z", "1970-01-01T00:00:00.750Z"]


def test_a_stage_below_the_level_is_not_logged(log: io.StringIO) -> None:
    logs.stage("detail", "job-1", level=logging.DEBUG)
    assert not log.getvalue()


def test_what_is_no_json_is_written_as_text(log: io.StringIO) -> None:
    logs.stage("run", "job-1", device=ValueError("lost"))
    assert json.loads(log.getvalue())["device"] == "lost"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux that is always full")
def test_a_line_that_the_disk_has_no_room_for_does_not_end_its_job() -> None:
    went_on = False
    with pytest.raises(OSError, match="No space left"), Path("/dev/full").open("w") as full:  # raised as it is closed
        logs.set_up("INFO", full)
        logs.stage("run", "job-1")
        logs.logger.info("warm")
        went_on = True
    assert went_on
