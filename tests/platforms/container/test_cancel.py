"""Cancels of a container's jobs by id, and the time that a client gives a job."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.platforms.container.box import Box
from tests.platforms.harness import until


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    with Box(tmp_path_factory.mktemp("cancel")) as box:
        yield box


def test_a_cancel_is_answered_once_the_job_has_left_the_device(box: Box, tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    asked = {"ms": 60_000, "steps": 600, "stubborn_ms": 300, "diary": str(diary), "name": "long"}
    answer = box.later("/sleep", asked, headers={"X-Job-Id": "mine"})
    until(diary.exists)
    cancelled = box.post("/cancel/mine")
    assert (cancelled.status_code, cancelled.json()) == (200, {"id": "mine", "status": "CANCELLED"})
    assert "long end" in diary.read_text()
    assert answer.result(30).status_code == 499


def test_one_that_waits_never_starts(box: Box, tmp_path: Path) -> None:
    diary, gate = tmp_path / "diary", tmp_path / "gate"
    holds = box.later("/tell", {"gate": str(gate)})
    until(lambda: box.server.performer.inside() == 1)
    waits = box.later("/sleep", {"diary": str(diary), "name": "waits"}, headers={"X-Job-Id": "waits"})
    until(lambda: box.server.performer.inside() == 2)
    assert box.post("/cancel/waits").json()["status"] == "CANCELLED"
    gate.touch()
    assert (waits.result(30).status_code, holds.result(30).status_code) == (499, 200)
    assert not diary.exists()


def test_of_a_job_that_is_not_there_it_is_not_found(box: Box) -> None:
    answer = box.post("/cancel/nobodys")
    assert (answer.status_code, answer.json()["detail"]["code"]) == (404, "not_found")


def test_an_id_is_given_to_one_job_at_a_time(box: Box, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    first = box.later("/tell", {"gate": str(gate)}, headers={"X-Job-Id": "same"})
    until(lambda: box.server.performer.inside() == 1)
    assert box.post("/sleep", {"ms": 0}, headers={"X-Job-Id": "same"}).status_code == 422
    gate.touch()
    answer = first.result(30)
    assert (answer.status_code, answer.headers["X-Job-Id"]) == (200, "same")
    assert answer.json()["receipt"]["job_id"] == "same"


def test_a_client_may_give_a_job_less_time(box: Box) -> None:
    answer = box.post("/sleep", {"ms": 60_000, "steps": 600}, headers={"X-Job-Timeout": "0.2"})
    assert (answer.status_code, answer.json()["detail"]["code"]) == (504, "deadline_exceeded")


@pytest.mark.parametrize("headers", [{"X-Job-Id": "../x"}, {"X-Job-Timeout": "soon"}, {"X-Job-Timeout": "nan"}])
def test_headers_that_cannot_be_meant_are_refused(box: Box, headers: dict[str, str]) -> None:
    assert box.post("/sleep", {"ms": 0}, headers=headers).status_code == 422
