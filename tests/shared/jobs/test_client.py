import base64
import json
import socket
from typing import Any

import pytest

from shared.errors import (
    Cancelled,
    DeadlineExceeded,
    DeliveryFailed,
    InsufficientCapacity,
    Internal,
    InvalidInput,
    NotFound,
    OutOfMemory,
    QueueFull,
    Unauthorized,
)
from shared.jobs.client import Client
from tests.shared.jobs.scripted import Answer, Asked, Scripted

KEY = "hush-hush"


def client(server: Scripted, patience_s: float = 5.0) -> Client:
    return Client(server.url, "media", KEY, patience_s=patience_s)


def job(status: str, **more: Any) -> Answer:
    return Answer(body={"id": "j", "status": status, **more})


def test_submit_sends_what_was_given_and_nothing_else() -> None:
    with Scripted(job("IN_QUEUE")) as server, client(server) as ours:
        assert ours.submit({"a": 1}, policy={"ttl": 10_000}, idempotency_key="k") == "j"
    (asked,) = server.asked
    assert (asked.method, asked.path) == ("POST", "/v2/media/run")
    assert json.loads(asked.body) == {"input": {"a": 1}, "policy": {"ttl": 10_000}}
    assert asked.headers["Authorization"] == f"Bearer {KEY}"
    assert asked.headers["Idempotency-Key"] == "k"


def test_an_empty_input_is_refused_before_it_is_sent() -> None:
    with Scripted(job("IN_QUEUE")) as server, client(server) as ours, pytest.raises(InvalidInput, match="empty"):
        ours.submit({})
    assert server.asked == []


def test_run_waits_for_the_output() -> None:
    script = [job("IN_QUEUE"), job("IN_QUEUE"), job("IN_PROGRESS", output={"step": 1}), job("COMPLETED", output=[1])]
    with Scripted(*script) as server, client(server) as ours:
        assert ours.run({"a": 1}) == [1]
    assert [asked.path.partition("?")[0] for asked in server.asked[1:]] == ["/v2/media/status-sync/j"] * 3


def test_progress_is_told_when_it_changes() -> None:
    running = job("IN_PROGRESS", output={"step": 1})
    seen: list[dict[str, Any]] = []
    with Scripted(job("IN_QUEUE"), running, running, job("COMPLETED")) as server, client(server) as ours:
        assert ours.wait("j", on_progress=seen.append) is None
    assert [body["status"] for body in seen] == ["IN_QUEUE", "IN_PROGRESS"]


def test_an_endpoint_without_status_sync_is_polled() -> None:
    def answer(asked: Asked) -> Answer:
        return Answer(404) if "status-sync" in asked.path else job("COMPLETED", output=1)

    with Scripted(Answer()) as server, client(server) as ours:
        server.answer = answer
        assert ours.wait("j") == 1


@pytest.mark.parametrize(
    ("ended", "raised", "said"),
    [
        ({"status": "FAILED", "error": "out_of_memory: too wide"}, OutOfMemory, "too wide"),
        ({"status": "FAILED", "error": "deadline_exceeded: late"}, DeadlineExceeded, "late"),
        ({"status": "FAILED", "error": "strange: x"}, Internal, "strange: x"),
        ({"status": "FAILED"}, Internal, "without saying why"),
        (
            {"status": "FAILED", "error": '{"error_type": "<class \'KeyError\'>", "error_message": "\'x\'"}'},
            Internal,
            "KeyError: 'x'",
        ),
        ({"status": "FAILED", "error": '{"message": "m", "type": "x", "code": "out_of_memory"}'}, OutOfMemory, "m"),
        ({"status": "FAILED", "error": "{'message': 'm', 'type': 'invalid_request_error'}"}, InvalidInput, "m"),
        ({"status": "CANCELLED"}, Cancelled, "cancelled"),
        ({"status": "TIMED_OUT", "error": "deadline_exceeded: after 5 s"}, DeadlineExceeded, "after 5 s"),
        ({"status": "TIMED_OUT"}, DeadlineExceeded, "longer than it may"),
    ],
)
def test_an_end_without_result_is_raised(ended: dict[str, Any], raised: type[BaseException], said: str) -> None:
    with Scripted(Answer(body={"id": "j", **ended})) as server, client(server) as ours:
        with pytest.raises(raised, match=said) as caught:
            ours.wait("j")
        assert type(caught.value) is raised


@pytest.mark.parametrize(
    ("status", "body", "raised", "said"),
    [
        (401, {"error": "unauthorized: no"}, Unauthorized, "no"),
        (401, b"<html>", Unauthorized, "HTTP 401"),
        (404, {"error": "not_found: gone"}, NotFound, "gone"),
        (400, {"error": "exceeded max body size"}, InvalidInput, "exceeded max body size"),
        (409, {"error": "invalid_input: Idempotency-Key"}, InvalidInput, "Idempotency-Key"),
        (200, b"<html>", Internal, "not JSON"),
        (200, [], Internal, "not a JSON object"),
    ],
)
def test_refusals_are_raised(status: int, body: Any, raised: type[BaseException], said: str) -> None:
    with Scripted(Answer(status, body)) as server, client(server) as ours:
        with pytest.raises(raised, match=said):
            ours.health()
        assert len(server.asked) == 1


def test_an_endpoint_that_stumbles_is_asked_again() -> None:
    busy = Answer(429, {"error": "queue_full: later"}, {"Retry-After": "0"})
    with Scripted(busy, Answer(503), Answer(drop=True), job("COMPLETED")) as server, client(server) as ours:
        assert ours.status("j")["status"] == "COMPLETED"
    assert len(server.asked) == 4


def test_retry_after_beyond_our_patience_is_not_waited_for() -> None:
    with (
        Scripted(Answer(429, {"error": "queue_full: later"}, {"Retry-After": "60"})) as server,
        client(server) as ours,
    ):
        with pytest.raises(QueueFull, match="later"):
            ours.submit({"a": 1})
        assert len(server.asked) == 1


@pytest.mark.parametrize("broken", [Answer(drop=True), Answer(502)])
def test_a_submission_is_repeated_only_with_a_key(broken: Answer) -> None:
    with Scripted(broken, job("IN_QUEUE")) as server, client(server) as ours:
        with pytest.raises((InsufficientCapacity, Internal)):
            ours.submit({"a": 1})
        assert len(server.asked) == 1
        server.script.insert(0, broken)
        assert ours.submit({"a": 1}, idempotency_key="k") == "j"
        assert len(server.asked) == 3


def test_nobody_there_says_so_without_the_key() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with Client(f"http://127.0.0.1:{port}/v2", "media", KEY, patience_s=0.3) as ours:
        with pytest.raises(InsufficientCapacity, match=r"does not answer .*; is `pilotlight up` running\?") as caught:
            ours.submit({"a": 1})
        assert KEY not in repr(caught.value)


def test_stream_yields_what_comes_with_the_end_and_goes_on_by_number() -> None:
    script = [
        Answer(body={"status": "IN_PROGRESS", "stream": [{"output": "a", "n": 0}], "next": 1}),
        Answer(drop=True),
        Answer(body={"status": "COMPLETED", "stream": [{"output": "b", "n": 3}], "next": 4}),
    ]
    with Scripted(*script) as server, client(server) as ours:
        assert list(ours.stream("j")) == ["a", "b"]
    assert [asked.path.rpartition("from=")[2] for asked in server.asked] == ["0", "1", "1"]


def test_stream_of_an_endpoint_that_drains() -> None:
    script = [
        Answer(body={"status": "IN_QUEUE", "stream": []}),
        Answer(body={"status": "IN_PROGRESS", "stream": [{"output": "a"}]}),
        Answer(body={"status": "FAILED", "stream": [{"output": "b"}]}),
        job("FAILED", error="internal: x"),
    ]
    with Scripted(*script) as server, client(server) as ours:
        stream = ours.stream("j")
        assert [next(stream), next(stream)] == ["a", "b"]
        with pytest.raises(Internal, match="x"):
            next(stream)


def test_stream_of_a_job_that_begins_anew_stops_instead_of_repeating() -> None:
    script = [
        Answer(body={"status": "IN_PROGRESS", "stream": [{"output": "a", "n": 0}], "next": 1}),
        Answer(body={"status": "IN_PROGRESS", "stream": [{"output": "a", "n": 3}], "next": 4, "first": 2}),
    ]
    with Scripted(*script) as server, client(server) as ours:
        stream = ours.stream("j")
        assert next(stream) == "a"
        with pytest.raises(Internal, match="begins anew"):
            next(stream)


def test_stream_of_a_job_lost_before_its_first_piece_is_whole() -> None:
    script = [
        Answer(body={"status": "IN_PROGRESS", "stream": [], "next": 2}),
        Answer(body={"status": "COMPLETED", "stream": [{"output": "a", "n": 3}], "next": 4, "first": 2}),
    ]
    with Scripted(*script) as server, client(server) as ours:
        assert list(ours.stream("j")) == ["a"]


@pytest.mark.parametrize("output", [["a", "b"], ["a", "b", {"usage": 1}], [], None])
def test_what_a_draining_endpoint_still_owes_comes_from_the_output(output: list[Any] | None) -> None:
    script = [
        Answer(body={"status": "IN_PROGRESS", "stream": [{"output": "a"}]}),
        Answer(body={"status": "COMPLETED", "stream": [{"output": "b"}]}),
        job("COMPLETED", output=output),
    ]
    with Scripted(*script) as server, client(server) as ours:
        assert list(ours.stream("j")) == (output or ["a", "b"])


@pytest.mark.parametrize("output", [["b", "a"], ["a"]])
def test_pieces_that_a_draining_endpoint_lost_or_repeated_are_noticed(output: list[Any]) -> None:
    ended = Answer(body={"status": "COMPLETED", "stream": [{"output": "a"}, {"output": "a"}]})
    with (
        Scripted(ended, job("COMPLETED", output=output)) as server,
        client(server) as ours,
        pytest.raises(DeliveryFailed, match="lost on the way"),
    ):
        list(ours.stream("j"))


def test_the_other_verbs() -> None:
    with Scripted(Answer(body={"removed": 2, "status": "completed", "id": "j"})) as server, client(server) as ours:
        assert ours.purge() == 2
        ours.cancel("j")
        ours.retry("j")
        ours.health()
    assert [(a.method, a.path.removeprefix("/v2/media/")) for a in server.asked] == [
        ("POST", "purge-queue"),
        ("POST", "cancel/j"),
        ("POST", "retry/j"),
        ("GET", "health"),
    ]


def test_the_key_goes_to_the_endpoints_own_urls_only() -> None:
    with Scripted(Answer(body=b"own")) as server, Scripted(Answer(body=b"other")) as other, client(server) as ours:
        assert ours.download(f"{server.url}/media/files/j/a.png") == b"own"
        assert ours.download(f"{other.url}/media/files/j/a.png") == b"other"
        assert ours.download(f"{server.url}/media-evil/a.png") == b"own"
    assert [("Authorization" in a.headers) for a in (*server.asked, *other.asked)] == [True, False, False]


def test_download_of_data_urls_and_of_what_is_gone() -> None:
    with Scripted(Answer(404)) as server, client(server) as ours:
        assert ours.download("data:image/png;base64," + base64.b64encode(b"png").decode()) == b"png"
        with pytest.raises(DeliveryFailed, match="404"):
            ours.download(f"{server.url}/media/files/j/a.png")
