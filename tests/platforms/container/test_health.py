"""What the probes say while a container loads, works, and cannot."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from platforms.container.health import IDLE_TIMES, Health
from tests.platforms.container.box import Box, Process
from tests.platforms.harness import until


@contextmanager
def loading(folder: Path) -> Iterator[tuple[Box, threading.Event]]:
    """A container whose models are loaded once the event is set."""
    box, go = Box(folder), threading.Event()
    warm = box.runner.warm

    def wait() -> None:
        go.wait(30)
        warm()

    box.runner.warm = wait  # type: ignore[method-assign]
    box.start()
    try:
        yield box, go
    finally:
        go.set()
        box.__exit__()


def test_it_listens_at_once_and_requests_wait_for_the_models(tmp_path: Path) -> None:
    with loading(tmp_path) as (box, go):
        assert box.status() == "LOADING"
        assert box.get("/ping").status_code == 204
        early = box.later("/sleep", {"ms": 1})
        until(lambda: box.server.performer.inside() == 1)
        assert not early.done()
        go.set()
        assert early.result(20).status_code == 200
        assert box.get("/ping").status_code == 200


def test_a_client_that_leaves_while_the_models_load_frees_its_place(tmp_path: Path) -> None:
    from tests.platforms.container.test_queue import hang_up

    with loading(tmp_path) as (box, go):
        connection = hang_up(box, '{"ms": 1}')
        until(lambda: box.server.performer.inside() == 1)
        connection.close()
        until(lambda: box.server.performer.inside() == 0)
        go.set()


def test_who_was_told_loading_is_told_idle_a_few_times_and_nobody_else() -> None:
    health = Health()
    node, other = ("10.0.0.1", "Go-http-client/1.1"), ("10.0.0.2", "curl")
    assert health.check(node).status == "LOADING"
    health.is_ready = True
    said = [health.check(node).status for _ in range(IDLE_TIMES + 2)]
    assert said == ["IDLE"] * IDLE_TIMES + ["OK", "OK"]
    assert health.check(other).status == "OK"


def test_never_idle_while_a_request_is_open() -> None:
    health = Health()
    node = ("10.0.0.1", "Go-http-client/1.1")
    health.check(node)
    health.is_ready, health.is_busy = True, lambda: True
    assert health.check(node).status == "OK"
    health.is_busy = lambda: False
    assert health.check(node).status == "IDLE"


def test_a_container_is_open_from_the_first_byte_to_the_last(box: Box, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    running = box.later("/tell", {"gate": str(gate)})
    until(box.server.health.is_busy)
    gate.touch()
    assert running.result(20).status_code == 200
    until(lambda: not box.server.health.is_busy())


def test_a_container_is_open_until_a_slow_client_has_its_answer(box: Box) -> None:
    from tests.platforms.container.test_queue import hang_up

    performer = box.server.performer
    counted = box.runner.backlog
    connection = hang_up(box, '{"side": 2600}', "/noise")
    assert connection.recv(100).startswith(b"HTTP/1.1 200")
    assert (performer.inside(), len(counted), performer.is_busy()) == (0, 0, True)
    connection.settimeout(20)
    got = sum(iter(lambda: len(connection.recv(2**20)) if performer.is_busy() else 0, 0))
    assert got > 12_000_000  # of 27 million; what is left is in the buffers of the system
    until(lambda: not performer.is_busy())
    connection.close()


def test_models_that_cannot_be_had_are_told_and_end_the_process(tmp_path: Path) -> None:
    named = {"PIPELINE": "converse", "MODEL_ID": "./no-such-folder", "MODEL_DIR": str(tmp_path)}
    with Process(tmp_path, **named) as container:
        until(lambda: (container.health() or {})["status"] == "ERROR")
        health = container.health() or {}
        refused = container.post("/converse", {"name": "a", "after": "b", "folder": "."})
        assert container.get("/ping").status_code == 503
        assert container.exit_code() == 1
    assert "no-such-folder" in health["reason"]
    assert (refused.status_code, refused.json()["detail"]["code"]) == (503, "model_unavailable")
    assert "no-such-folder" in container.log.read_text()


@pytest.mark.parametrize("path", ["/health", "/ping", "/version", "/health/", "/version/"])
def test_probes_need_no_key_and_everything_else_does(keyed: Box, path: str) -> None:
    assert keyed.get(path).status_code == 200


@pytest.mark.parametrize("path", ["/capabilities", "/metrics", "/hardware/info", "/hardware/stats/"])
def test_what_tells_of_the_worker_needs_the_key(keyed: Box, path: str) -> None:
    refused = keyed.get(path)
    assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert keyed.get(path, headers={"Authorization": "Bearer the key"}).status_code == 200


def test_requests_need_the_key(keyed: Box) -> None:
    for headers in ({}, {"Authorization": "Bearer other"}, {"Authorization": "Basic x"}):
        refused = keyed.post("/sleep", {"ms": -1}, headers=headers)
        assert (refused.status_code, refused.json()["detail"]["code"]) == (401, "unauthorized")
        assert refused.headers["WWW-Authenticate"] == "Bearer"
    assert keyed.post("/sleep", {"ms": 0}, headers={"Authorization": "bearer the key"}).status_code == 200


def test_version_names_the_pipeline(chat: Box) -> None:
    said = chat.get("/version").json()
    assert (said["pipeline"], said["model_id"]) == ("text-generation", "")
    assert said["version"]
