"""OpenAI's routes as jobs."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from tests.platforms.harness import KEY, Endpoint, until

CHAT = "openai/v1/chat/completions"


def test_a_request_becomes_a_job_and_its_output_the_answer(endpoint: Endpoint) -> None:
    question = {"model": "m", "messages": []}
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(endpoint.call, "POST", CHAT, json=question)
        (job,) = endpoint.take()
        assert job["input"] == {"openai_route": "/v1/chat/completions", "openai_input": question}
        endpoint.done(job["id"], b'{"output":{"choices":[]}}')
        assert waiting.result().json() == {"choices": []}


@pytest.mark.parametrize("done", [b'{"output":[{"data":[]}]}', b'{"output":[]}'])
def test_a_streaming_worker_answers_with_its_only_piece(endpoint: Endpoint, done: bytes) -> None:
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(endpoint.call, "GET", "openai/v1/models")
        (job,) = endpoint.take()
        assert job["input"] == {"openai_route": "/v1/models"}
        endpoint.piece(job["id"], b'{"output":{"data":[]}}')
        endpoint.done(job["id"], done)
        assert waiting.result().json() == {"data": []}


def test_a_failed_job_is_an_error_with_its_status(endpoint: Endpoint) -> None:
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(endpoint.call, "POST", CHAT, json={"model": "m"})
        (job,) = endpoint.take()
        endpoint.done(job["id"], b'{"error":"invalid_input: messages: missing"}')
        assert waiting.result().status_code == 422
        error = {"message": "messages: missing", "type": "invalid_input", "code": 422}
        assert waiting.result().json() == {"error": error}


def stream(endpoint: Endpoint) -> tuple[requests.Response, dict[str, Any]]:
    answer = endpoint.call("POST", CHAT, json={"stream": True}, stream=True)
    (job,) = endpoint.take()
    return answer, job


def test_server_sent_events_are_forwarded_as_they_come(endpoint: Endpoint) -> None:
    answer, job = stream(endpoint)
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    chunks = answer.iter_content(None)
    for text in ('data: {"n":1}\n\n', 'data: {"é":2}\n\n'):
        endpoint.piece(job["id"], json.dumps({"output": text}).encode())
        assert next(chunk for chunk in chunks if not chunk.startswith(b":")) == text.encode()
    endpoint.piece(job["id"], b'{"output":"data: [DONE]\\n\\n"}')
    endpoint.done(job["id"], b'{"output":[]}')
    assert b"".join(chunks) == b"data: [DONE]\n\n"


def test_an_error_in_the_middle_is_the_last_event(endpoint: Endpoint) -> None:
    answer, job = stream(endpoint)
    endpoint.piece(job["id"], b'{"output":{"n":1}}')
    endpoint.done(job["id"], b'{"error":"out_of_memory: too long"}')
    first, last = [event for event in answer.content.split(b"\n\n") if event.startswith(b"data")]
    assert first == b'data: {"n": 1}'
    assert json.loads(last.removeprefix(b"data: "))["error"]["type"] == "out_of_memory"


def test_a_client_that_leaves_cancels_its_job(endpoint: Endpoint) -> None:
    answer, job = stream(endpoint)
    answer.close()
    endpoint.piece(job["id"], b'{"output":"data: 1\\n\\n"}')
    until(lambda: endpoint.status(job["id"])["status"] == "CANCELLED")
    with pytest.raises(requests.ReadTimeout):
        requests.post(f"{endpoint.url}/{CHAT}", json={}, headers={"Authorization": KEY}, timeout=0.3)
    until(lambda: endpoint.call("GET", "health").json()["jobs"]["inQueue"] == 0)


def test_no_json_is_refused(endpoint: Endpoint) -> None:
    assert endpoint.call("POST", CHAT, data=b"{").status_code == 400
