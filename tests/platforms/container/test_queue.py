"""One lane, a bounded queue before it, and clients that leave."""

import socket
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from platforms.container.statuses import nearest
from shared.jobs.uploads import AT_ONCE
from tests.platforms.container.box import Box, until_written
from tests.platforms.harness import until


def detail(answer: Any) -> dict[str, Any]:
    return dict(answer.json()["detail"])


def hang_up(box: Box, body: str, path: str = "/sleep") -> socket.socket:
    """A request whose client can leave."""
    connection = socket.create_connection(("127.0.0.1", box.server.port))
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    connection.sendall(f"{head}{body}".encode())
    return connection


def long_sleep(diary: Path, name: str) -> str:
    return f'{{"ms": 60000, "steps": 6000, "name": "{name}", "diary": "{diary}"}}'


def test_more_than_may_wait_are_refused_until_a_place_is_free(tmp_path: Path) -> None:
    with Box(tmp_path, queue_max=1) as box:
        box.ok("/sleep", {"ms": 10})  # so that the backlog knows how long they take
        gate = tmp_path / "gate"
        running = box.later("/tell", {"gate": str(gate), "name": "a", "diary": str(tmp_path / "diary")})
        until_written(tmp_path / "diary", "a start")
        waiting = box.later("/sleep", {"ms": 1})
        until(lambda: box.server.performer.inside() == 2)
        refused = box.post("/sleep", {"ms": 1})
        assert (refused.status_code, detail(refused)["code"]) == (429, "queue_full")
        assert int(refused.headers["Retry-After"]) >= 1
        gate.touch()
        assert running.result(20).status_code == 200
        assert waiting.result(20).status_code == 200
        assert box.post("/sleep", {"ms": 1}).status_code == 200


def test_an_answer_leaves_only_after_its_place_is_free(tmp_path: Path) -> None:
    """A client that sends its next request at the answer of the last finds the only place free, every time."""
    with Box(tmp_path, queue_max=0) as box:
        statuses = {box.post("/sleep", {"ms": 0}).status_code for _ in range(200)}
    assert statuses == {200}


def test_wrong_requests_are_told_so_and_keep_no_place(tmp_path: Path) -> None:
    with Box(tmp_path, queue_max=0) as box:
        assert {box.post("/sleep", {"ms": -1}).status_code for _ in range(20)} == {422}
        assert box.post("/sleep", {"ms": 0}).status_code == 200


def test_a_client_that_hangs_up_cancels_its_job_and_frees_its_place(tmp_path: Path) -> None:
    with Box(tmp_path, queue_max=1) as box:
        diary = tmp_path / "diary"
        first = hang_up(box, long_sleep(diary, "first"))
        until_written(diary, "first start")
        second = hang_up(box, long_sleep(diary, "second"))
        until(lambda: box.server.performer.inside() == 2)
        second.close()  # it waits, and never starts
        until(lambda: box.server.performer.inside() == 1)
        first.close()
        until_written(diary, "first end")
        assert box.ok("/sleep", {"ms": 1})
        until(lambda: box.server.performer.inside() == 0)
        assert "second" not in diary.read_text()


def test_a_client_that_leaves_a_stream_cancels_its_job(tmp_path: Path, box: Box) -> None:
    diary, gate = tmp_path / "diary", tmp_path / "gate"
    body = f'{{"stream": true, "gate": "{gate}", "name": "a", "diary": "{diary}"}}'
    connection = hang_up(box, body, "/tell")
    assert b'"text":"one "' in connection.recv(10_000) + connection.recv(10_000)
    connection.close()
    until_written(diary, "a end")
    until(lambda: box.server.performer.inside() == 0)


def test_a_client_that_leaves_while_it_sends_holds_nothing(tmp_path: Path) -> None:
    with Box(tmp_path, queue_max=0) as box:
        connection = socket.create_connection(("127.0.0.1", box.server.port))
        connection.sendall(b"POST /sleep HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        until(box.server.performer.is_busy)
        connection.close()
        until(lambda: not box.server.performer.is_busy())
        assert box.post("/sleep", {"ms": 0}).status_code == 200


def test_uploads_that_take_too_much_together_are_told_to_come_again(tmp_path: Path) -> None:
    head = b"POST /sleep HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n{"
    large = {"name": "x" * 100_000}
    with Box(tmp_path, max_media_bytes=100_000) as box, ExitStack() as uploads:
        for _ in range(AT_ONCE):
            uploads.enter_context(socket.create_connection(("127.0.0.1", box.server.port))).sendall(head)
        until(lambda: box.post("/sleep", large).status_code == 429)
        refused = box.post("/sleep", large)
        assert detail(refused)["code"] == "queue_full"
        assert int(refused.headers["Retry-After"]) > 0
        assert 'pilotlight_refused_requests_total{reason="queue_full"} ' in box.get("/metrics").text
        assert 'pilotlight_refused_requests_total{reason="queue_full"} 0.0' not in box.get("/metrics").text
        assert box.post("/sleep", {"ms": 0}).status_code == 200  # a small one finds room
        uploads.close()
        until(lambda: box.post("/sleep", large).status_code != 429)


def test_a_body_that_stops_coming_is_not_waited_for(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.jobs.wire.STALLED_S", 0.05)
    with socket.create_connection(("127.0.0.1", box.server.port), timeout=20) as connection:
        connection.sendall(b"POST /sleep HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        answer = b"".join(iter(lambda: connection.recv(1000), b""))
    assert answer.startswith(b"HTTP/1.1 408")
    assert b'"code": "request_timeout"' in answer
    assert not box.server.performer.is_busy()


def test_a_job_that_takes_too_long_is_a_504(tmp_path: Path) -> None:
    with Box(tmp_path, job_timeout_s=0.05) as box:
        answer = box.post("/sleep", {"ms": 60_000, "steps": 6000})
    assert (answer.status_code, detail(answer)["code"]) == (504, "deadline_exceeded")


@pytest.mark.parametrize("how", ["waits", "streams"])
def test_a_job_that_does_not_stop_ends_the_container(tmp_path: Path, how: str) -> None:
    """It is answered, what waits behind it is told to come again, and the exit code is not 0."""
    gate, diary = tmp_path / "gate", tmp_path / "diary"
    with Box(tmp_path, job_timeout_s=0.05, hang_s=0.05) as box:
        stuck = box.later(
            "/tell",
            {
                "gate": str(gate),
                "deaf": True,
                "name": "a",
                "diary": str(diary),
                "stream": how == "streams",
                "hold": 0,
            },
        )
        until_written(diary, "a start")
        behind = box.later("/sleep", {"ms": 1})
        assert stuck.result(20).status_code == 504
        assert behind.result(20).status_code == 503
        assert box.ended() == 1
        gate.touch()


def test_a_lost_device_ends_the_container_after_its_answers(tmp_path: Path) -> None:
    with Box(tmp_path) as box:
        lost = box.later("/ruin", {"how": "device_lost", "after_ms": 100})
        until(lambda: box.server.performer.inside() == 1)
        behind = box.later("/sleep", {"ms": 1})
        assert lost.result(20).json()["detail"]["retryable"] is True
        assert behind.result(20).status_code == 503
        assert box.status() == "ERROR"
        assert box.ended() == 1


def test_livepeers_node_is_told_errors_by_statuses_that_it_reads(tmp_path: Path) -> None:
    with Box(tmp_path, queue_max=0, livepeer_statuses=True) as box:
        gate = tmp_path / "gate"
        running = box.later("/tell", {"gate": str(gate), "name": "a", "diary": str(tmp_path / "diary")})
        until_written(tmp_path / "diary", "a start")
        full = box.post("/sleep", {"ms": 1})
        assert (full.status_code, detail(full)["code"]) == (500, "queue_full")
        assert int(full.headers["Retry-After"]) >= 1
        gate.touch()
        assert running.result(20).status_code == 200
        assert box.post("/sleep", {"ms": -1}).status_code == 422
        assert box.post("/nowhere", {}).status_code == 400
        assert box.get("/health").status_code == 200


@pytest.mark.parametrize(("status", "read"), [(401, 401), (413, 400), (429, 500), (499, 500), (503, 500), (504, 500)])
def test_the_nearest_status_that_is_read(status: int, read: int) -> None:
    assert nearest(status) == read
