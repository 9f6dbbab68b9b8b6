"""What the container tells of itself, over HTTP: capabilities, cards, metrics; behind its key."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import parser

from shared.capabilities import Capabilities
from tests.platforms.container.box import Box, until_written
from tests.platforms.harness import until

PATHS = ("/capabilities", "/hardware/info", "/hardware/stats", "/metrics")


def counted(box: Box, name: str, *labels: str) -> float:
    """One sample, by the values of its labels in the order of their names."""
    families = parser.text_string_to_metric_families(box.get("/metrics").text)
    samples = [s for family in families for s in family.samples if s.name == name]
    return next((s.value for s in samples if [s.labels[k] for k in sorted(s.labels)] == list(labels)), 0.0)


@pytest.fixture(scope="module")
def box_with_key(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    with Box(tmp_path_factory.mktemp("about"), auth_token="key") as box:
        yield box


@pytest.mark.parametrize("path", PATHS)
def test_a_container_with_a_key_tells_of_itself_only_to_those_who_have_it(box_with_key: Box, path: str) -> None:
    refused = box_with_key.get(path)
    assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert box_with_key.get(path, headers={"Authorization": "Bearer key"}).status_code == 200
    assert box_with_key.get(f"{path}/", headers={"Authorization": "Bearer key"}).status_code == 200


def test_jobs_are_told_while_they_run_and_counted_when_they_have_ended(tmp_path: Path) -> None:
    with Box(tmp_path, queue_max=1) as box:
        gate = tmp_path / "gate"
        running = box.later("/tell", {"gate": str(gate), "name": "a", "diary": str(tmp_path / "diary")})
        until_written(tmp_path / "diary", "a start")
        waiting = box.later("/sleep", {"ms": 1})
        until(lambda: box.server.performer.inside() == 2)
        assert box.post("/sleep", {"ms": 1}).status_code == 429
        load = Capabilities.model_validate_json(box.get("/capabilities").content).load
        assert (load.running, load.waiting, load.capacity, load.queue_max) == (1, 1, 1, 1)
        assert counted(box, "pilotlight_jobs_running", "device") == 1
        assert counted(box, "pilotlight_jobs_waiting", "device") == 1
        gate.touch()
        assert running.result(20).status_code == waiting.result(20).status_code == 200
        assert counted(box, "pilotlight_jobs_total", "completed", "tell") == 1
        assert counted(box, "pilotlight_jobs_total", "completed", "sleep") == 1
        assert counted(box, "pilotlight_refused_requests_total", "queue_full") == 1
        assert counted(box, "pilotlight_stage_seconds_count", "sleep", "run") == 1


def test_a_request_that_cannot_be_run_is_counted_as_such(tmp_path: Path) -> None:
    with Box(tmp_path) as box:
        assert box.post("/sleep", {"ms": -1}).status_code == 422
        assert counted(box, "pilotlight_jobs_total", "invalid_input", "sleep") == 1
