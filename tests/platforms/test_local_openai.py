"""OpenAI's routes as jobs: a worker's hands on one side, plain requests and the official client on the other."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest
import requests

from shared.jobs.backend import Submission
from tests.platforms.harness import KEY, Endpoint, until

CHAT = "openai/v1/chat/completions"
QUESTION: Any = {"model": "m", "messages": [{"role": "user", "content": "2 + 2?"}]}
TOO_LONG = {"message": "too long", "type": "invalid_request_error", "param": None, "code": "context_length_exceeded"}


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as threads:
        yield threads


@pytest.fixture
def client(endpoint: Endpoint) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{endpoint.url}/openai/v1", api_key=KEY, max_retries=0) as client:
        yield client


def encoded(**body: Any) -> bytes:
    return json.dumps(body).encode()


def chunk(text: str) -> str:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    body = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return f"data: {json.dumps(body)}\n\n"


def events(body: bytes) -> list[bytes]:
    return [event.removeprefix(b"data: ") for event in body.split(b"\n\n") if event.startswith(b"data")]


class Asked:
    """A request under way in a thread, and the job that it became."""

    def __init__(self, endpoint: Endpoint, threads: ThreadPoolExecutor, **body: Any) -> None:
        self._endpoint = endpoint
        self.session = requests.Session()
        headers = {"Authorization": KEY}
        self.response: Future[requests.Response] = threads.submit(
            self.session.post, f"{endpoint.url}/{CHAT}", json=body, headers=headers, stream=True, timeout=30
        )
        (job,) = endpoint.take()
        self.job = str(job["id"])
        self.input = job["input"]

    def pieces(self, *pieces: Any, worker: str = "w1") -> None:
        for piece in pieces:
            self._endpoint.piece(self.job, encoded(output=piece), worker)

    def end(self, **body: Any) -> requests.Response:
        self._endpoint.done(self.job, encoded(**body))
        return self.response.result()

    def status(self) -> str:
        return str(self._endpoint.status(self.job)["status"])


Ask = Callable[..., Asked]


@pytest.fixture
def ask(endpoint: Endpoint, threads: ThreadPoolExecutor) -> Iterator[Ask]:
    made: list[Asked] = []

    def ask(**body: Any) -> Asked:
        made.append(Asked(endpoint, threads, **body))
        return made[-1]

    yield ask
    for asked in made:
        asked.session.close()


def test_a_request_becomes_a_job_and_its_output_the_answer(ask: Ask) -> None:
    asked = ask(**QUESTION)
    assert asked.input == {"openai_route": "/v1/chat/completions", "openai_input": QUESTION}
    answer = asked.end(output={"choices": []})
    assert answer.json() == {"choices": []}
    assert answer.headers["X-Request-Id"] == asked.job


@pytest.mark.parametrize("output", [[{"data": []}], []])
def test_a_streaming_worker_answers_with_its_only_piece(ask: Ask, output: list[Any]) -> None:
    asked = ask(**QUESTION)
    asked.pieces({"data": []})
    assert asked.end(output=output).json() == {"data": []}


@pytest.mark.parametrize(
    ("error", "status", "kind", "code"),
    [
        ("invalid_input: messages: missing", 400, "invalid_request_error", "invalid_input"),
        ("not_found: no model", 404, "not_found_error", "not_found"),
        ("out_of_memory: too wide", 503, "server_error", "out_of_memory"),
        ("deadline_exceeded: late", 504, "server_error", "deadline_exceeded"),
        ("something else", 500, "server_error", "internal"),
        (TOO_LONG, 400, "invalid_request_error", "context_length_exceeded"),
        (str(TOO_LONG), 400, "invalid_request_error", "context_length_exceeded"),  # as the SDK writes a yielded one
        ({"error": TOO_LONG}, 400, "invalid_request_error", "context_length_exceeded"),
        (None, 500, "server_error", "internal"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_failed_job_is_an_error_with_its_status(
    ask: Ask, error: Any, status: int, kind: str, code: str, stream: bool
) -> None:
    asked = ask(stream=stream)
    answer = asked.end(error=error or {"odd": 1})
    said = answer.json()["error"]
    assert (answer.status_code, said["type"], said["code"]) == (status, kind, code)
    assert said["message"]


def test_what_would_fail_again_is_not_asked_again_by_the_client(ask: Ask) -> None:
    lost = ask().end(error="internal: worker lost twice")
    crowded = ask().end(error="out_of_memory: too wide")
    assert (lost.headers.get("X-Should-Retry"), crowded.headers.get("X-Should-Retry")) == ("false", None)


@pytest.mark.parametrize("stream", [False, True])
def test_a_cancelled_job_is_499(endpoint: Endpoint, ask: Ask, stream: bool) -> None:
    asked = ask(stream=stream)
    endpoint.call("POST", f"cancel/{asked.job}")
    assert asked.response.result().status_code == 499
    assert asked.response.result().json()["error"]["code"] == "cancelled"


def test_a_job_that_ran_too_long_is_504(endpoint: Endpoint, ask: Ask) -> None:
    asked = ask()
    endpoint.clock.advance(601)
    endpoint.tick()
    assert asked.response.result().status_code == 504
    assert asked.response.result().json()["error"]["code"] == "deadline_exceeded"


@pytest.mark.parametrize(
    ("path", "given", "status", "kind"),
    [
        ("media", {"data": b"{"}, 400, "invalid_request_error"),
        ("media", {"data": b"x" * 11_000_000}, 400, "invalid_request_error"),
        ("other", {"json": {}}, 404, "not_found_error"),
        ("media", {"json": {}, "headers": {"Authorization": "Bearer wrong"}}, 401, "authentication_error"),
    ],
)
def test_what_cannot_be_a_job_is_refused_in_openais_shape(
    standing: Endpoint, path: str, given: dict[str, Any], status: int, kind: str
) -> None:
    headers = {"Authorization": f"Bearer {KEY}", **given.pop("headers", {})}
    answer = requests.post(f"{standing.base}/{path}/{CHAT}", headers=headers, timeout=30, **given)
    assert (answer.status_code, answer.json()["error"]["type"]) == (status, kind)
    assert ("WWW-Authenticate" in answer.headers) == (status == 401)


def test_a_method_that_no_route_has_is_refused_in_openais_shape(standing: Endpoint) -> None:
    answer = standing.call("DELETE", "openai/v1/models/m")
    assert (answer.status_code, answer.json()["error"]["type"]) == (404, "not_found_error")


def test_pieces_are_forwarded_as_they_come(ask: Ask) -> None:
    asked = ask(stream=True)
    asked.pieces('data: {"n":1}\n\n')
    answer = asked.response.result()
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    assert (answer.headers["Cache-Control"], answer.headers["X-Accel-Buffering"]) == ("no-cache", "no")
    chunks = answer.iter_content(None)
    assert next(chunks) == b'data: {"n":1}\n\n'
    asked.pieces('data: {"é":2}\n\n')
    assert next(chunks) == 'data: {"é":2}\n\n'.encode()
    asked.pieces("data: [DONE]\n\n")
    asked.end(output=[])
    assert b"".join(chunks) == b"data: [DONE]\n\n"


def test_an_error_in_the_middle_is_the_last_event(ask: Ask) -> None:
    asked = ask(stream=True)
    asked.pieces({"n": 1})
    first, last = events(asked.end(error="out_of_memory: too long").content)
    assert first == b'{"n": 1}'
    assert json.loads(last)["error"] == {
        "message": "too long",
        "type": "server_error",
        "param": None,
        "code": "out_of_memory",
    }


def test_an_error_that_the_worker_told_the_reader_is_not_told_twice(ask: Ask) -> None:
    asked = ask(stream=True)
    told = f"data: {json.dumps({'error': TOO_LONG})}\n\n"
    asked.pieces(chunk("4"), told)
    assert events(asked.end(error=TOO_LONG).content) == events((chunk("4") + told).encode())


def test_a_worker_that_does_not_stream_answers_all_at_once(ask: Ask) -> None:
    answer = ask(stream=True).end(output={"choices": []})
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    assert events(answer.content) == [b'{"choices": []}']


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_before_the_first_piece_cancels_its_job(endpoint: Endpoint, stream: bool) -> None:
    with pytest.raises(requests.ReadTimeout):
        requests.post(f"{endpoint.url}/{CHAT}", json={"stream": stream}, headers={"Authorization": KEY}, timeout=0.3)
    until(lambda: endpoint.call("GET", "health").json()["jobs"]["inQueue"] == 0)


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_while_the_job_runs_cancels_it(endpoint: Endpoint, stream: bool) -> None:
    leaving = endpoint.later_call(leave, endpoint, stream)
    (job,) = endpoint.take()
    endpoint.ping("w1", job["id"])
    leaving.result()
    until(lambda: endpoint.status(job["id"])["status"] == "CANCELLED")
    assert endpoint.worker("GET", "job-stop/w1?gpu=X").json() == {"jobsToStop": [job["id"]]}


def leave(endpoint: Endpoint, stream: bool) -> None:
    with pytest.raises(requests.ReadTimeout):
        requests.post(f"{endpoint.url}/{CHAT}", json={"stream": stream}, headers={"Authorization": KEY}, timeout=1)


@pytest.mark.parametrize("stream", [False, True])
def test_a_job_that_is_purged_is_not_found(endpoint: Endpoint, threads: ThreadPoolExecutor, stream: bool) -> None:
    waiting = threads.submit(endpoint.call, "POST", CHAT, json={"stream": stream})
    until(lambda: endpoint.call("POST", "purge-queue").json()["removed"])
    assert (waiting.result().status_code, waiting.result().json()["error"]["type"]) == (404, "not_found_error")


def test_a_client_that_leaves_in_mid_stream_cancels_its_job(ask: Ask) -> None:
    asked = ask(stream=True)
    asked.pieces(chunk("4"))
    asked.response.result().close()
    until(lambda: asked.status() == "CANCELLED")


def test_a_job_lost_in_mid_stream_ends_the_stream_with_an_error(endpoint: Endpoint, ask: Ask) -> None:
    asked = ask(stream=True)
    asked.pieces(chunk("one"))
    chunks = asked.response.result().iter_content(None)
    assert next(chunks) == chunk("one").encode()
    endpoint.server.call(lambda: endpoint.desk.worker_lost("w1"))
    endpoint.take("w2")
    asked.pieces(chunk("one"), worker="w2")
    (last,) = events(b"".join(chunks))
    assert "worker was lost" in json.loads(last)["error"]["message"]
    until(lambda: asked.status() == "CANCELLED")


def test_a_job_lost_before_its_first_piece_is_streamed_from_its_second_run(endpoint: Endpoint, ask: Ask) -> None:
    asked = ask(stream=True)
    endpoint.progress(asked.job)
    endpoint.server.call(lambda: endpoint.desk.worker_lost("w1"))
    endpoint.take("w2")
    asked.pieces(chunk("one"), worker="w2")
    endpoint.done(asked.job, b'{"output":[]}', "w2")
    assert asked.response.result().content == chunk("one").encode()


def test_an_endpoint_that_stops_says_so(tmp_path: Path, threads: ThreadPoolExecutor) -> None:
    with Endpoint(tmp_path) as endpoint:
        silent, begun, whole = (Asked(endpoint, threads, stream=n < 2) for n in range(3))
        begun.pieces(chunk("4"))
        begun.response.result()
    for asked in (silent, whole):
        assert asked.response.result().status_code == 503
    _, last = events(begun.response.result().content)
    assert json.loads(last)["error"]["code"] == "insufficient_capacity"
    for asked in (silent, begun, whole):
        asked.session.close()


class TestOfficialClient:
    def test_chat(self, endpoint: Endpoint, client: openai.OpenAI, threads: ThreadPoolExecutor) -> None:
        waiting = threads.submit(lambda: client.chat.completions.create(**QUESTION))
        (job,) = endpoint.take()
        message = {"role": "assistant", "content": "4"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        body = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
        endpoint.piece(job["id"], encoded(output=body))
        endpoint.done(job["id"], encoded(output=[body]))
        assert waiting.result().choices[0].message.content == "4"

    def test_streamed_chat(self, endpoint: Endpoint, client: openai.OpenAI, threads: ThreadPoolExecutor) -> None:
        waiting = threads.submit(lambda: client.chat.completions.create(**QUESTION, stream=True))
        (job,) = endpoint.take()
        endpoint.piece(job["id"], encoded(output=chunk("fo")))
        stream = iter(waiting.result())
        assert next(stream).choices[0].delta.content == "fo"
        endpoint.piece(job["id"], encoded(output=chunk("ur") + "data: [DONE]\n\n"))
        endpoint.done(job["id"], b'{"output":[]}')
        assert [part.choices[0].delta.content for part in stream] == ["ur"]

    def test_models(self, endpoint: Endpoint, client: openai.OpenAI, threads: ThreadPoolExecutor) -> None:
        model = {"id": "demo/text-generation", "object": "model", "created": 0, "owned_by": "pilotlight"}
        listing = threads.submit(client.models.list)
        (job,) = endpoint.take()
        assert job["input"] == {"openai_route": "/v1/models"}
        endpoint.done(job["id"], encoded(output=[{"object": "list", "data": [model]}]))
        assert [m.id for m in listing.result()] == ["demo/text-generation"]
        one = threads.submit(client.models.retrieve, "demo/text-generation")
        (job,) = endpoint.take()
        assert job["input"] == {"openai_route": "/v1/models/demo/text-generation"}
        endpoint.done(job["id"], encoded(output=[model]))
        assert one.result().id == "demo/text-generation"

    @pytest.mark.parametrize("stream", [False, True])
    def test_a_bad_request(
        self, endpoint: Endpoint, client: openai.OpenAI, threads: ThreadPoolExecutor, stream: bool
    ) -> None:
        waiting = threads.submit(lambda: client.chat.completions.create(**QUESTION, stream=stream))
        (job,) = endpoint.take()
        endpoint.done(job["id"], encoded(error=TOO_LONG))
        with pytest.raises(openai.BadRequestError, match="too long") as refused:
            waiting.result()
        assert (refused.value.code, refused.value.request_id) == ("context_length_exceeded", job["id"])

    def test_an_error_in_mid_stream(
        self, endpoint: Endpoint, client: openai.OpenAI, threads: ThreadPoolExecutor
    ) -> None:
        waiting = threads.submit(lambda: client.chat.completions.create(**QUESTION, stream=True))
        (job,) = endpoint.take()
        endpoint.piece(job["id"], encoded(output=chunk("fo")))
        stream = iter(waiting.result())
        next(stream)
        endpoint.done(job["id"], b'{"error":"out_of_memory: too long"}')
        with pytest.raises(openai.APIError, match="too long"):
            next(stream)

    def test_no_such_endpoint_and_a_wrong_key(self, standing: Endpoint) -> None:
        nowhere = openai.OpenAI(base_url=f"{standing.base}/no/openai/v1", api_key=KEY, max_retries=0)
        with nowhere, pytest.raises(openai.NotFoundError, match="no endpoint `no`"):
            nowhere.models.list()
        nobody = openai.OpenAI(base_url=f"{standing.url}/openai/v1", api_key="wrong", max_retries=0)
        with nobody, pytest.raises(openai.AuthenticationError, match="this endpoint's key"):
            nobody.chat.completions.create(**QUESTION)

    def test_a_full_queue_says_when_to_come_back(self, endpoint: Endpoint, client: openai.OpenAI) -> None:
        ledger = endpoint.server.backends["media"].ledger
        endpoint.server.call(lambda: [ledger.submit(Submission({"a": n})) for n in range(50)])
        with pytest.raises(openai.RateLimitError) as refused:
            client.chat.completions.create(**QUESTION)
        assert refused.value.response.headers["Retry-After"] == "5"

    def test_a_stream_that_is_closed_stops_the_job(
        self, endpoint: Endpoint, client: openai.OpenAI, threads: ThreadPoolExecutor
    ) -> None:
        waiting = threads.submit(lambda: client.chat.completions.create(**QUESTION, stream=True))
        (job,) = endpoint.take()
        endpoint.piece(job["id"], encoded(output=chunk("fo")))
        stream: Any = waiting.result()
        stream.close()
        until(lambda: endpoint.status(job["id"])["status"] == "CANCELLED")
