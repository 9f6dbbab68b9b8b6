"""The clients' side, spoken by hand."""

import contextlib
import itertools
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from fastapi.openapi.utils import get_openapi

from tests.platforms.harness import KEY, TOKEN, Endpoint, until

WEEK_S = 7 * 86_400


def test_a_job_from_queue_to_result(endpoint: Endpoint) -> None:
    queued = endpoint.call("POST", "run", json={"input": {"a": 1}, "webhookV2": "dropped"})
    job_id = queued.json()["id"]
    assert queued.json() == {"id": job_id, "status": "IN_QUEUE"}
    assert job_id.endswith("-l1")
    endpoint.clock.advance(2.0)
    assert endpoint.take() == [{"id": job_id, "input": {"a": 1}, "policy": {"executionTimeout": 600_000}}]
    running = {"id": job_id, "status": "IN_PROGRESS", "delayTime": 2000, "workerId": "w1"}
    assert endpoint.status(job_id) == running
    endpoint.progress(job_id, b'{"status":"IN_PROGRESS","output":{"step":3}}')
    assert endpoint.status(job_id) == {**running, "output": {"step": 3}}
    endpoint.clock.advance(1.5)
    endpoint.done(job_id, '{"output":{"text":"née","n":1.5}}'.encode())
    assert endpoint.status(job_id) == {
        **running,
        "status": "COMPLETED",
        "executionTime": 1500,
        "output": {"text": "née", "n": 1.5},
    }
    assert endpoint.call("POST", f"status/{job_id}").json()["status"] == "COMPLETED"


def test_nothing_returned_leaves_no_output(endpoint: Endpoint) -> None:
    job_id = endpoint.submit()
    endpoint.take()
    endpoint.done(job_id, b"{}")
    assert "output" not in endpoint.status(job_id)


def test_an_error_fails_the_job_and_keeps_what_came_with_it(endpoint: Endpoint) -> None:
    job_id = endpoint.submit()
    endpoint.take()
    endpoint.done(job_id, b'{"output":{"rest":1},"error":"invalid_input: too wide"}')
    job = endpoint.status(job_id)
    assert (job["status"], job["error"], job["output"]) == ("FAILED", "invalid_input: too wide", {"rest": 1})


def test_a_handlers_exception_is_kept_as_the_sdk_wrote_it(endpoint: Endpoint) -> None:
    job_id = endpoint.submit()
    endpoint.take()
    text = json.dumps({"error_type": "<class 'ValueError'>", "error_message": "x\ud800"})
    endpoint.done(job_id, json.dumps({"error": text}).encode())
    assert endpoint.status(job_id)["error"] == text


@pytest.mark.parametrize("body", [b'{"output": NaN}', b"output=1", b"[1]", b"\xff", b"[" * 100_000])
def test_an_answer_that_is_no_json_fails_the_job(standing: Endpoint, body: bytes) -> None:
    job_id = standing.submit()
    standing.take()
    assert standing.done(job_id, body).status_code == 200
    job = standing.status(job_id)
    assert job["status"] == "FAILED"
    assert job["error"].startswith("internal: the worker's answer is not JSON")


def test_runsync_answers_with_the_result(endpoint: Endpoint) -> None:
    waiting = endpoint.later_call(
        lambda: requests.post(
            f"{endpoint.url}/runsync", json={"input": {"a": 1}}, headers={"Authorization": KEY}, timeout=30
        ).json()
    )
    (job,) = endpoint.take()
    assert job["id"].startswith("sync-")
    endpoint.done(job["id"])
    assert waiting.result()["output"] == {"ok": 1}


def test_runsync_that_takes_longer_answers_with_the_status(endpoint: Endpoint) -> None:
    answer = endpoint.call("POST", "runsync?wait=1", json={"input": {"a": 1}})
    assert answer.status_code == 200
    assert answer.json()["status"] == "IN_QUEUE"


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_status_sync_waits_for_the_end(endpoint: Endpoint, method: str) -> None:
    job_id = endpoint.submit()
    assert endpoint.call(method, f"status-sync/{job_id}?wait=1").json()["status"] == "IN_QUEUE"
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(endpoint.call, method, f"status-sync/{job_id}")
        endpoint.take()
        endpoint.done(job_id)
        assert waiting.result().json()["status"] == "COMPLETED"


def test_cancel_in_the_queue_is_immediate(endpoint: Endpoint) -> None:
    job_id = endpoint.submit()
    assert endpoint.call("POST", f"cancel/{job_id}").json() == {"id": job_id, "status": "CANCELLED"}
    assert endpoint.status(job_id) == {"id": job_id, "status": "CANCELLED"}


def test_cancel_after_the_end_says_that_it_came_too_late(endpoint: Endpoint) -> None:
    job_id = endpoint.submit()
    endpoint.take()
    endpoint.done(job_id)
    assert endpoint.call("POST", f"cancel/{job_id}").json()["status"] == "COMPLETED"
    assert endpoint.status(job_id)["output"] == {"ok": 1}


def test_retry_runs_a_failed_job_again_under_its_id(endpoint: Endpoint) -> None:
    job_id = endpoint.submit()
    endpoint.take()
    endpoint.done(job_id, b'{"output":1,"error":"internal: x"}')
    assert endpoint.call("POST", f"retry/{job_id}").json() == {"id": job_id, "status": "IN_QUEUE"}
    assert endpoint.status(job_id) == {"id": job_id, "status": "IN_QUEUE"}
    assert endpoint.take()[0]["id"] == job_id
    endpoint.done(job_id)
    refused = endpoint.call("POST", f"retry/{job_id}")
    assert refused.status_code == 400
    assert refused.json()["error"].startswith("invalid_input: retry: the job is COMPLETED")


def test_purge_removes_what_nobody_has_taken(endpoint: Endpoint) -> None:
    running = endpoint.submit()
    endpoint.take()
    queued = [endpoint.submit() for _ in range(2)]
    assert endpoint.call("POST", "purge-queue").json() == {"removed": 2, "status": "completed"}
    assert endpoint.call("GET", f"status/{queued[0]}").status_code == 404
    assert endpoint.status(running)["status"] == "IN_PROGRESS"


def test_health_and_metrics_count_jobs_and_workers(endpoint: Endpoint) -> None:
    first = endpoint.submit()
    endpoint.submit()
    endpoint.take("w1")
    endpoint.ping("w2")
    endpoint.ping("w3", status="unhealthy", reason="no CUDA")
    health = endpoint.call("GET", "health").json()
    assert health["jobs"] == {"completed": 0, "failed": 0, "inProgress": 1, "inQueue": 1, "retried": 0}
    workers = {"idle": 0, "initializing": 1, "ready": 0, "running": 1, "throttled": 0, "unhealthy": 1}
    assert health["workers"] == workers
    assert health["unhealthy"] == {"w3": "no CUDA"}
    endpoint.done(first)
    metrics = endpoint.call("GET", "metrics").json()
    assert metrics["readyWorkers"] == ["w1"]
    assert metrics["workers"] == {**workers, "idle": 1, "ready": 1, "running": 0}


def test_an_unhealthy_worker_gets_nothing(endpoint: Endpoint) -> None:
    endpoint.ping("w1", status="unhealthy", reason="no CUDA")
    unfit = endpoint.take_later("w1")
    job_id = endpoint.submit()
    assert endpoint.take("w2")[0]["id"] == job_id
    assert not unfit.done()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"input": {}}, "input: send an object"),
        ({}, "input: send an object"),
        ({"input": [1]}, "input: send an object"),
        ([], "body: send a JSON object"),
        ({"input": {"a": 1}, "policy": {"executionTimeout": 4_999}}, "policy.executionTimeout"),
        ({"input": {"a": 1}, "policy": {"executionTimeout": 604_800_001}}, "policy.executionTimeout"),
        ({"input": {"a": 1}, "policy": {"ttl": 9_999}}, "policy.ttl"),
        ({"input": {"a": 1}, "policy": {"ttl": "1h"}}, "policy.ttl"),
        ({"input": {"a": 1}, "policy": []}, "policy: must be"),
        ({"input": {"a": 1}, "webhook": "file:///etc/passwd"}, "webhook"),
        ({"input": {"a": 1}, "s3Config": "x"}, "s3Config"),
    ],
)
def test_refuses_what_cannot_be_a_job(standing: Endpoint, body: object, said: str) -> None:
    answer = standing.call("POST", "run", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(f"invalid_input: {said}")
    assert answer.json()["detail"]["code"] == "invalid_input"


@pytest.mark.parametrize("body", [b"", b"{", b'{"input": {"a": NaN}}', b"\xff\xfe", b"[" * 100_000])
def test_refuses_what_is_no_json(standing: Endpoint, body: bytes) -> None:
    assert standing.call("POST", "run", data=body).status_code == 400


def test_bounds_of_the_policy_are_inside(endpoint: Endpoint) -> None:
    endpoint.submit(policy={"executionTimeout": 5_000, "ttl": 10_000, "lowPriority": True})
    endpoint.submit(policy={"executionTimeout": WEEK_S * 1000, "ttl": WEEK_S * 1000})


@pytest.mark.parametrize("query", ["status/x?ttl=soon", "stream/x?wait=1s", "stream/x?from=-"])
def test_refuses_times_that_are_no_numbers(standing: Endpoint, query: str) -> None:
    assert standing.call("GET", query).status_code == 400


def test_unknown_jobs_endpoints_and_routes_are_404(endpoint: Endpoint) -> None:
    for path in ("status/x", "stream/x", "status-sync/x", "files/x/y"):
        answer = endpoint.call("GET", path)
        assert (answer.status_code, answer.json()["detail"]["code"]) == (404, "not_found")
    for path in ("cancel/x", "retry/x"):
        assert endpoint.call("POST", path).status_code == 404
    other = requests.get(f"{endpoint.base}/nope/health", headers={"Authorization": KEY}, timeout=5)
    assert other.status_code == 404
    assert "media" in other.json()["error"]
    assert endpoint.call("GET", "nope").json()["error"].startswith("not_found: ")


def test_bodies_over_the_limit_are_refused(endpoint: Endpoint) -> None:
    eleven = b'{"input":{"a":"' + b"x" * 11 * 2**20 + b'"}}'
    refused = endpoint.call("POST", "run", data=eleven)
    assert refused.status_code == 400
    assert "exceeded max body size of 10MiB" in refused.json()["error"]
    assert endpoint.call("POST", "runsync?wait=1", data=eleven).status_code == 200
    refused = endpoint.call("POST", "runsync?wait=1", data=eleven + b" " * 10 * 2**20)
    assert "exceeded max body size of 20MiB" in refused.json()["error"]


def test_an_endless_body_is_cut_off(endpoint: Endpoint) -> None:
    sent = 0

    def forever() -> Iterator[bytes]:
        nonlocal sent
        for _ in itertools.count():
            sent += 2**20
            yield b"x" * 2**20

    with contextlib.suppress(requests.ConnectionError):  # cut off before it had read the answer
        assert endpoint.call("POST", "run", data=forever()).status_code == 400
    assert sent < 200 * 2**20


def test_the_same_idempotency_key_is_the_same_job(endpoint: Endpoint) -> None:
    def submit(job_input: dict[str, int], key: str) -> requests.Response:
        return endpoint.call("POST", "run", json={"input": job_input}, headers={"Idempotency-Key": key})

    first = submit({"a": 1, "b": 2}, "k1").json()["id"]
    assert submit({"b": 2, "a": 1}, "k1").json()["id"] == first
    other = submit({"a": 2}, "k1")
    assert (other.status_code, other.json()["detail"]["code"]) == (409, "invalid_input")
    assert submit({"a": 1, "b": 2}, "k2").json()["id"] != first
    endpoint.take()
    endpoint.done(first)
    assert submit({"a": 1, "b": 2}, "k1").json() == {"id": first, "status": "COMPLETED"}
    endpoint.clock.advance(WEEK_S + 1)
    assert submit({"a": 2}, "k1").json()["id"] != first


def test_a_full_queue_says_when_to_come_again(endpoint: Endpoint) -> None:
    for _ in range(50):
        endpoint.submit()
    full = endpoint.call("POST", "run", json={"input": {"a": 1}})
    assert (full.status_code, full.json()["detail"]["code"]) == (429, "queue_full")
    assert int(full.headers["Retry-After"]) > 0
    endpoint.ping("w1")  # a worker raises the limit to 500
    endpoint.submit()


def test_s3_config_reaches_the_worker_and_nobody_else(endpoint: Endpoint) -> None:
    secret = {"accessId": "id", "accessSecret": "hush"}
    job_id = endpoint.submit(s3Config=secret, webhook="https://example.com/hook")
    (job,) = endpoint.take()
    assert (job["s3Config"], job["webhook"]) == (secret, "https://example.com/hook")
    endpoint.done(job_id)
    assert "hush" not in endpoint.call("GET", f"status/{job_id}").text
    assert "hush" not in until(lambda: endpoint.webhooks.calls)[0][1].decode()


@pytest.mark.filterwarnings("ignore:Duplicate Operation ID")  # two methods, one function; no schema is served
def test_every_route_needs_its_own_token(endpoint: Endpoint) -> None:
    opened = set()
    schema = get_openapi(title="all", version="0", routes=endpoint.server.app.routes)
    assert len(schema["paths"]) > 20
    for template, methods in schema["paths"].items():
        path = template.replace("{endpoint}", "media")
        for method in methods:
            url = f"http://127.0.0.1:{endpoint.server.port}{path}"
            codes = [
                requests.request(method, url, headers=headers, timeout=5).status_code
                for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer "})
            ]
            if codes == [200, 200, 200]:
                opened.add(path)
            else:
                assert codes == [401, 401, 401], (method, path)
    assert opened == {"/health", "/ping", "/version"}


def test_tokens_open_one_side_only(endpoint: Endpoint) -> None:
    def status(method: str, path: str, token: str) -> int:
        headers = {"Authorization": token}
        return requests.request(method, f"{endpoint.url}/{path}", headers=headers, timeout=5).status_code

    client_routes = [
        ("GET", "health"),
        ("POST", "run"),
        ("GET", "status/x"),
        ("GET", "files/x/y"),
        ("POST", "cancel/x"),
    ]
    worker_routes = [
        ("GET", "job-take/w"),
        ("GET", "job-stop/w"),
        ("GET", "ping/w"),
        ("POST", "job-done/w/x"),
        ("POST", "job-stream/w/x"),
        ("PUT", "files/x/y"),
    ]
    assert {status(*route, TOKEN) for route in client_routes} == {401}
    assert {status(*route, KEY) for route in worker_routes} == {401}
    assert status("GET", "health", KEY) == status("GET", "health", f"bearer {KEY}") == 200


def test_unauthorized_says_how(endpoint: Endpoint) -> None:
    answer = requests.get(f"{endpoint.url}/health", timeout=5)
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert answer.json()["error"].startswith("unauthorized: send `Authorization: Bearer")
