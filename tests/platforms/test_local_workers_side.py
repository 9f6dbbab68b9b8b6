"""The workers' side, spoken by hand: who is handed what, and what comes back."""

import socket
from pathlib import Path

import pytest
import requests

from tests.platforms.harness import TOKEN, Endpoint, ids, until


class TestTake:
    def test_a_poll_is_held_until_there_is_a_job(self, endpoint: Endpoint) -> None:
        poll = endpoint.take_later("w1")
        job_id = endpoint.submit()
        assert ids(poll.result()) == [job_id]

    def test_a_batch_takes_what_there_is_up_to_its_size(self, endpoint: Endpoint) -> None:
        queued = [endpoint.submit() for _ in range(5)]
        assert ids(endpoint.take("w1", 3)) == queued[:3]
        assert ids(endpoint.take("w1", 256)) == queued[3:]

    def test_paths_of_templates_without_a_question_mark(self, endpoint: Endpoint) -> None:
        first, second = endpoint.submit(), endpoint.submit()
        assert endpoint.worker("GET", "job-take/w1&job_in_progress=0").json()["id"] == first
        batch = endpoint.worker("GET", "job-take-batch/w1&batch_size=4&job_in_progress=1").json()
        assert ids(batch) == [second]
        headers = {"Authorization": TOKEN}
        done = f"{endpoint.url}/job-done/w1/{first}&isStream=false"
        assert requests.post(done, data=b'{"output":1}', headers=headers, timeout=5).status_code == 200
        stream = f"{endpoint.url}/job-stream/w1/{second}&isStream=false"
        assert requests.post(stream, data=b'{"output":"a"}', headers=headers, timeout=5).status_code == 200
        assert endpoint.status(first)["status"] == "COMPLETED"
        assert len(endpoint.call("GET", f"stream/{second}").json()["stream"]) == 1

    def test_an_idle_worker_comes_before_a_busy_one(self, endpoint: Endpoint) -> None:
        endpoint.submit()
        endpoint.take("busy")
        busy, idle = endpoint.take_later("busy"), endpoint.take_later("idle")
        job_id = endpoint.submit()
        assert ids(idle.result()) == [job_id]
        other = endpoint.submit()
        assert ids(busy.result()) == [other]

    def test_batches_of_idle_workers_share_the_queue(self, endpoint: Endpoint) -> None:
        first, second = endpoint.take_later("w1", 8), endpoint.take_later("w2", 8)
        jobs = [endpoint.submit() for _ in range(2)]
        assert sorted([*ids(first.result()), *ids(second.result())], key=str) == sorted(jobs)
        assert len(first.result()) == len(second.result()) == 1

    def test_a_poll_whose_client_left_gets_nothing(self, endpoint: Endpoint) -> None:
        with socket.create_connection(("127.0.0.1", endpoint.server.port)) as client:
            head = f"GET /v2/media/job-take/w1?gpu=X HTTP/1.1\r\nHost: x\r\nAuthorization: {TOKEN}\r\n\r\n"
            client.sendall(head.encode())
            until(lambda: endpoint.open_polls("w1"))
        until(lambda: not endpoint.open_polls("w1"))
        job_id = endpoint.submit()
        assert endpoint.status(job_id)["status"] == "IN_QUEUE"
        assert ids(endpoint.take("w2")) == [job_id]

    def test_strict_workers_are_not_told_the_policy(self, strict: Endpoint) -> None:
        job_id = strict.submit()
        assert strict.take() == [{"id": job_id, "input": {"a": 1}}]

    def test_a_dismissed_worker_is_let_go(self, endpoint: Endpoint) -> None:
        poll = endpoint.take_later("w1")
        endpoint.server.call(lambda: endpoint.desk.dismiss("w1"))
        assert poll.result() == []
        endpoint.submit()
        assert endpoint.take("w1") == []


@pytest.mark.parametrize("size", ["-1", "0", "99999"])
def test_odd_batch_sizes_are_moved_into_bounds(endpoint: Endpoint, size: str) -> None:
    endpoint.submit()
    assert len(endpoint.worker("GET", f"job-take-batch/w1?gpu=X&batch_size={size}").json()) == 1


class TestStop:
    def stops(self, endpoint: Endpoint) -> list[str]:
        answer = endpoint.worker("GET", "job-stop/w1?gpu=X")
        return list(answer.json()["jobsToStop"]) if answer.status_code == 200 else []

    def test_a_stop_is_repeated_until_a_ping_no_longer_names_the_job(self, tmp_path: Path) -> None:
        with Endpoint(tmp_path, hold_s=1.0) as endpoint:
            job_id = endpoint.submit()
            endpoint.take()
            endpoint.call("POST", f"cancel/{job_id}")
            assert endpoint.status(job_id)["status"] == "CANCELLED"
            assert self.stops(endpoint) == [job_id]
            endpoint.ping("w1", job_id)
            assert self.stops(endpoint) == [job_id]
            endpoint.ping("w1")
            assert self.stops(endpoint) == []

    def test_a_held_stop_poll_hears_of_a_cancel_at_once(self, endpoint: Endpoint) -> None:
        job_id = endpoint.submit()
        endpoint.take()
        poll = endpoint.later_call(self.stops, endpoint)
        endpoint.call("POST", f"cancel/{job_id}")
        assert poll.result() == [job_id]

    def test_what_a_stopped_job_still_posts_is_ignored(self, endpoint: Endpoint) -> None:
        job_id = endpoint.submit()
        endpoint.take()
        endpoint.call("POST", f"cancel/{job_id}")
        before = endpoint.status(job_id)
        assert endpoint.done(job_id).status_code == 200
        assert endpoint.done(job_id, b'{"status":"IN_PROGRESS","output":1}').status_code == 200
        assert endpoint.piece(job_id, b'{"output":1}').status_code == 200
        assert endpoint.status(job_id) == before

    def test_progress_after_the_result_is_ignored(self, endpoint: Endpoint) -> None:
        job_id = endpoint.submit()
        endpoint.take()
        endpoint.done(job_id)
        endpoint.done(job_id, b'{"status":"IN_PROGRESS","output":1}')
        assert endpoint.status(job_id)["output"] == {"ok": 1}

    def test_too_long_a_run_is_timed_out_and_stopped(self, endpoint: Endpoint) -> None:
        job_id = endpoint.submit(policy={"executionTimeout": 5000})
        endpoint.clock.advance(100)
        endpoint.take()
        endpoint.clock.advance(4.9)
        endpoint.ping("w1", job_id)
        endpoint.tick()
        assert endpoint.status(job_id)["status"] == "IN_PROGRESS"
        endpoint.clock.advance(0.2)
        endpoint.tick()
        job = endpoint.status(job_id)
        assert job["status"] == "TIMED_OUT"
        assert job["error"].startswith("deadline_exceeded: the job ran longer than its 5000 ms")
        assert self.stops(endpoint) == [job_id]

    def test_a_retried_job_does_not_meet_its_former_run(self, endpoint: Endpoint) -> None:
        job_id = endpoint.submit(policy={"executionTimeout": 5000})
        endpoint.take("w1")
        endpoint.clock.advance(5.1)
        endpoint.ping("w1", job_id)
        endpoint.tick()
        endpoint.call("POST", f"retry/{job_id}")
        again = endpoint.take_later("w1")
        assert not again.done()
        endpoint.done(job_id, b'{"output":"stale"}')
        assert endpoint.status(job_id)["status"] == "IN_QUEUE"
        endpoint.ping("w1")
        assert ids(again.result()) == [job_id]

    def test_a_job_that_outlives_its_ttl_is_gone_and_stopped(self, endpoint: Endpoint) -> None:
        running, queued, kept = (endpoint.submit(policy={"ttl": 10_000}) for _ in range(3))
        endpoint.take()
        assert endpoint.call("GET", f"status/{kept}?ttl=60000").status_code == 200
        endpoint.clock.advance(10)
        endpoint.ping("w1", running)
        endpoint.tick()
        assert endpoint.call("GET", f"status/{running}").status_code == 404
        assert endpoint.call("GET", f"status/{queued}").status_code == 404
        assert self.stops(endpoint) == [running]
        assert ids(endpoint.take()) == [kept]

    def test_a_job_that_the_worker_should_not_have_is_stopped(self, endpoint: Endpoint) -> None:
        endpoint.ping("w1", "unheard-of")
        assert self.stops(endpoint) == ["unheard-of"]
