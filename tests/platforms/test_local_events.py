"""Progress and pieces of a job, told again from any event on."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from platforms.local.ledger import MOST_EVENTS
from shared.jobs.client import Client
from tests.platforms.harness import KEY, Endpoint


def progress(endpoint: Endpoint, job_id: str, step: int, worker: str = "w1", more: str = "") -> None:
    told = b'{"status":"IN_PROGRESS","output":{"stage":"running","step":%d%s}}' % (step, more.encode())
    assert endpoint.done(job_id, told, worker).status_code == 200


def replay(endpoint: Endpoint, job_id: str, start: int = 0) -> dict[str, Any]:
    return dict(endpoint.call("GET", f"events/{job_id}?from={start}&wait=0").json())


def steps(view: dict[str, Any]) -> list[int]:
    return [event["progress"]["step"] for event in view["events"]]


def running(endpoint: Endpoint) -> str:
    job_id = endpoint.submit()
    endpoint.take()
    return job_id


def test_progress_and_pieces_are_told_again_in_their_order(endpoint: Endpoint) -> None:
    job_id = running(endpoint)
    progress(endpoint, job_id, 1)
    endpoint.piece(job_id, b'{"output":"a"}')
    progress(endpoint, job_id, 2)
    endpoint.done(job_id, b'{"output":[]}')
    told = [
        {"n": 0, "progress": {"stage": "running", "step": 1}},
        {"n": 1, "piece": "a"},
        {"n": 2, "progress": {"stage": "running", "step": 2}},
    ]
    first = replay(endpoint, job_id)
    assert first == {"status": "COMPLETED", "events": told, "next": 4}
    assert replay(endpoint, job_id) == first
    assert replay(endpoint, job_id, 2)["events"] == told[2:]


def test_holds_until_something_is_told(endpoint: Endpoint) -> None:
    job_id = running(endpoint)
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(endpoint.call, "GET", f"events/{job_id}?wait=20000")
        progress(endpoint, job_id, 1)
        assert steps(waiting.result().json()) == [1]


def test_what_a_lost_worker_told_is_gone_and_numbers_go_on(endpoint: Endpoint) -> None:
    job_id = running(endpoint)
    progress(endpoint, job_id, 5)
    endpoint.server.call(lambda: endpoint.desk.worker_lost("w1"))
    endpoint.take("w2")
    progress(endpoint, job_id, 1, "w2")
    again = replay(endpoint, job_id)
    assert (steps(again), again["first"], again["events"][0]["n"]) == ([1], 1, 1)


def test_previews_are_told_once(endpoint: Endpoint) -> None:
    job_id = running(endpoint)
    progress(endpoint, job_id, 1, more=',"preview":"data:,x"')
    assert endpoint.call("GET", f"status/{job_id}").json()["output"]["preview"] == "data:,x"
    assert replay(endpoint, job_id)["events"] == [{"n": 0, "progress": {"stage": "running", "step": 1}}]


def test_of_a_long_job_the_last_progress_is_kept(endpoint: Endpoint) -> None:
    job_id = running(endpoint)

    def tell_all() -> None:
        ledger = endpoint.server.backends["media"].ledger
        for step in range(MOST_EVENTS + 10):
            ledger.progress(ledger.find(job_id), b'{"stage":"running","step":%d}' % step)

    endpoint.server.call(tell_all)
    assert steps(replay(endpoint, job_id)) == list(range(10, MOST_EVENTS + 10))


def test_our_client_follows_to_the_end(endpoint: Endpoint) -> None:
    job_id = running(endpoint)
    progress(endpoint, job_id, 1)
    with ThreadPoolExecutor(1) as threads:
        following = threads.submit(lambda: list(Client(endpoint.base, "media", KEY).events(job_id)))
        progress(endpoint, job_id, 2)
        endpoint.done(job_id)
        assert [event["progress"]["step"] for event in following.result()] == [1, 2]


def test_strict_endpoints_have_no_such_route(strict: Endpoint) -> None:
    assert strict.call("GET", f"events/{strict.submit()}").status_code == 404
