"""The workers' side, spoken by hand: who is handed what, what comes back, who is lost."""

import json
import socket
import time
from pathlib import Path

import pytest
import requests

from tests.platforms.harness import TOKEN, Endpoint, until


def ids(jobs: list[dict[str, object]]) -> list[object]:
    return [job["id"] for job in jobs]


def start(endpoint: Endpoint, job_id: str) -> None:
    endpoint.progress(job_id)


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


class TestLoss:
    def lose(self, endpoint: Endpoint, worker: str = "w1") -> None:
        endpoint.server.call(lambda: endpoint.desk.worker_lost(worker))

    def test_jobs_not_started_go_to_the_front_in_their_order(self, endpoint: Endpoint) -> None:
        jobs = [endpoint.submit() for _ in range(5)]
        assert ids(endpoint.take("w1", 3)) == jobs[:3]
        self.lose(endpoint)
        assert "retries" not in endpoint.status(jobs[0])
        assert ids(endpoint.take("w2", 5)) == jobs

    def test_a_started_job_is_handed_out_again_and_alone(self, endpoint: Endpoint) -> None:
        started, other, last = (endpoint.submit() for _ in range(3))
        endpoint.take("w1", 2)
        start(endpoint, started)
        self.lose(endpoint)
        assert endpoint.status(started) == {"id": started, "status": "IN_QUEUE", "retries": 1}
        assert ids(endpoint.take("w2", 5)) == [started]
        more = endpoint.take_later("w2")
        assert ids(endpoint.take("w3")) == [other]
        assert not more.done()
        endpoint.done(started, worker="w2")
        assert ids(more.result()) == [last]
        assert endpoint.status(started)["retries"] == 1
        assert endpoint.call("GET", "health").json()["jobs"]["retried"] == 1

    def test_a_job_to_be_run_alone_waits_for_a_worker_that_holds_nothing(self, endpoint: Endpoint) -> None:
        started = endpoint.submit()
        endpoint.take("w1")
        start(endpoint, started)
        held = endpoint.submit()
        endpoint.take("w2")
        waiting = endpoint.take_later("w2", 4)
        self.lose(endpoint)
        behind = endpoint.submit()
        assert {endpoint.status(j)["status"] for j in (started, behind)} == {"IN_QUEUE"}
        endpoint.done(held, worker="w2")
        assert ids(waiting.result()) == [started]

    def test_lost_twice_after_its_start_fails(self, endpoint: Endpoint) -> None:
        job_id = endpoint.submit()
        for worker in ("w1", "w2"):
            endpoint.take(worker)
            start(endpoint, job_id)
            self.lose(endpoint, worker)
        job = endpoint.status(job_id)
        assert job["status"] == "FAILED"
        assert job["error"].startswith("internal: worker lost twice")

    def test_a_job_that_is_always_among_the_lost_fails_although_it_never_said_that_it_started(
        self, endpoint: Endpoint
    ) -> None:
        """It may be what ends its workers: without a bound it would end one after the other."""
        job_id = endpoint.submit()
        for n in range(5):
            assert ids(endpoint.take(f"w{n}")) == [job_id]
            self.lose(endpoint, f"w{n}")
        job = endpoint.status(job_id)
        assert (job["status"], job["retries"]) == ("FAILED", 1)

    def test_a_job_that_downloads_its_model_has_not_started(self, endpoint: Endpoint) -> None:
        job_id = endpoint.submit()
        endpoint.take("w1")
        endpoint.progress(job_id, b'{"status":"IN_PROGRESS","output":{"seq":1,"stage":"downloading"}}')
        assert endpoint.status(job_id)["output"]["stage"] == "downloading"
        self.lose(endpoint)
        assert "retries" not in endpoint.status(job_id)

    def test_a_worker_that_was_told_to_end_counts_against_no_job(self, endpoint: Endpoint) -> None:
        job_id = endpoint.submit()
        endpoint.take("w1")
        start(endpoint, job_id)
        endpoint.server.call(lambda: endpoint.desk.dismiss("w1"))
        self.lose(endpoint)
        assert endpoint.status(job_id) == {"id": job_id, "status": "IN_QUEUE"}

    def test_strict_counts_every_loss(self, strict: Endpoint) -> None:
        job_id = strict.submit()
        for worker in ("w1", "w2"):
            strict.take(worker)
            self.lose(strict, worker)
        assert strict.status(job_id)["error"] == "job timed out after 1 retries"

    def test_three_missed_pings_lose_a_worker(self, endpoint: Endpoint) -> None:
        job_id = endpoint.submit()
        endpoint.take("w1")
        endpoint.clock.advance(3.0)
        endpoint.tick()
        assert endpoint.status(job_id)["status"] == "IN_PROGRESS"
        endpoint.clock.advance(0.1)
        endpoint.tick()
        assert endpoint.status(job_id)["status"] == "IN_QUEUE"
        assert endpoint.call("GET", "health").json()["workers"]["running"] == 0

    def test_a_worker_that_was_only_silent_keeps_its_job(self, endpoint: Endpoint) -> None:
        job_id = endpoint.submit()
        endpoint.take("w1")
        endpoint.clock.advance(60)
        endpoint.tick()
        again = endpoint.take_later("w1")
        assert not again.done()
        endpoint.ping("w1", job_id)
        assert endpoint.status(job_id)["status"] == "IN_PROGRESS"
        endpoint.done(job_id)
        assert endpoint.status(job_id)["output"] == {"ok": 1}

    def test_a_result_counts_until_somebody_else_has_the_job(self, endpoint: Endpoint) -> None:
        first, second = endpoint.submit(), endpoint.submit()
        endpoint.take("w1", 2)
        endpoint.clock.advance(60)
        endpoint.tick()
        endpoint.done(first, worker="w1")
        assert endpoint.status(first)["status"] == "COMPLETED"
        assert ids(endpoint.take("w2")) == [second]
        endpoint.done(second, b'{"output":"stale"}', "w1")
        assert endpoint.status(second)["status"] == "IN_PROGRESS"
        endpoint.done(second, b'{"output":"fresh"}', "w2")
        endpoint.done(second, b'{"output":"stale"}', "w1")
        assert endpoint.status(second)["output"] == "fresh"

    def test_a_dead_workers_ping_process_changes_nothing(self, endpoint: Endpoint) -> None:
        job_id = endpoint.submit()
        endpoint.take("w1")
        self.lose(endpoint)
        endpoint.ping("w1", job_id)
        assert endpoint.status(job_id)["status"] == "IN_QUEUE"

    def test_a_job_that_two_pings_do_not_name_is_handed_out_again(self, endpoint: Endpoint) -> None:
        lost, held = endpoint.submit(), endpoint.submit()
        endpoint.take("w1", 2)
        endpoint.ping("w1", held)
        assert endpoint.status(lost)["status"] == "IN_PROGRESS"
        endpoint.ping("w1", held)
        assert (endpoint.status(lost)["status"], endpoint.status(held)["status"]) == ("IN_QUEUE", "IN_PROGRESS")
        again = endpoint.take_later("w1")  # not at once: it may have the job, unread, in its socket
        assert not again.done()
        endpoint.ping("w1", held)
        assert ids(again.result()) == [lost]

    def test_a_ping_that_names_the_job_starts_the_count_anew(self, endpoint: Endpoint) -> None:
        job_id = endpoint.submit()
        endpoint.take("w1")
        for named in ((), (job_id,), (), (job_id,)):
            endpoint.ping("w1", *named)
        assert endpoint.status(job_id)["status"] == "IN_PROGRESS"

    def test_pieces_of_a_lost_run_are_forgotten(self, endpoint: Endpoint) -> None:
        job_id = endpoint.submit()
        endpoint.take("w1")
        endpoint.piece(job_id, b'{"output":"old"}')
        self.lose(endpoint)
        endpoint.take("w2")
        endpoint.piece(job_id, b'{"output":"new"}', "w2")
        stream = endpoint.call("GET", f"stream/{job_id}?from=0").json()["stream"]
        assert [item["output"] for item in stream] == ["new"]

    def test_stop_pod_reaches_the_supervisor(self, endpoint: Endpoint) -> None:
        asked: list[str] = []
        endpoint.desk.on_stop_pod = asked.append
        job_id = endpoint.submit()
        endpoint.take("w1")
        endpoint.done(job_id, b'{"output":1,"stopPod":true}')
        assert asked == ["w1"]
        assert endpoint.status(job_id)["status"] == "COMPLETED"


class TestWebhooks:
    HOOK = "https://example.com/hook?secret=s"

    def ended(self, endpoint: Endpoint) -> str:
        job_id = endpoint.submit(webhook=self.HOOK)
        endpoint.take()
        endpoint.done(job_id)
        return job_id

    def calls(self, endpoint: Endpoint, count: int) -> None:
        until(lambda: len(endpoint.webhooks.calls) == count)

    def test_the_whole_job_is_posted(self, endpoint: Endpoint) -> None:
        job_id = self.ended(endpoint)
        self.calls(endpoint, 1)
        url, body = endpoint.webhooks.calls[0]
        assert url == self.HOOK
        assert json.loads(body) == {**endpoint.status(job_id), "input": {"a": 1}, "webhook": self.HOOK}

    def test_failed_cancelled_and_timed_out_jobs_call_too(self, endpoint: Endpoint) -> None:
        failed, cancelled, late = (
            endpoint.submit(webhook=self.HOOK, policy={"executionTimeout": 5000}) for _ in range(3)
        )
        endpoint.take("w1", 3)
        endpoint.done(failed, b'{"error":"internal: x"}')
        endpoint.call("POST", f"cancel/{cancelled}")
        endpoint.clock.advance(5.1)
        endpoint.ping("w1", late)
        endpoint.tick()
        self.calls(endpoint, 3)
        said = {json.loads(body)["id"]: json.loads(body)["status"] for _, body in endpoint.webhooks.calls}
        assert said == {failed: "FAILED", cancelled: "CANCELLED", late: "TIMED_OUT"}

    def test_two_retries_then_no_more(self, endpoint: Endpoint) -> None:
        endpoint.webhooks.answers = [500, ConnectionError("no"), 404]
        job_id = self.ended(endpoint)
        self.calls(endpoint, 1)
        for seconds, count in ((5, 2), (15, 3), (1000, 3)):
            until(lambda: endpoint.server.call(lambda: due(endpoint, job_id)) != endpoint.clock())
            endpoint.clock.advance(seconds - 0.5)
            before = len(endpoint.webhooks.calls)
            endpoint.tick()
            assert len(endpoint.webhooks.calls) == before
            endpoint.clock.advance(0.5)
            self.calls(endpoint, count)
        assert endpoint.status(job_id)["status"] == "COMPLETED"

    def test_a_call_that_was_due_is_made_after_a_restart(self, tmp_path: Path) -> None:
        with Endpoint(tmp_path) as endpoint:
            endpoint.webhooks.answers = [503]
            job_id = self.ended(endpoint)
            self.calls(endpoint, 1)
            until(lambda: endpoint.server.call(lambda: due(endpoint, job_id)) == endpoint.clock() + 5)
        with Endpoint(tmp_path) as endpoint:
            endpoint.clock.advance(5)
            self.calls(endpoint, 1)


def due(endpoint: Endpoint, job_id: str) -> float | None:
    return endpoint.desk.ledger.find(job_id).webhook_due_at


class TestRestart:
    def test_jobs_events_results_and_keys_are_kept(self, tmp_path: Path) -> None:
        with Endpoint(tmp_path) as endpoint:
            finished, running, queued = (endpoint.submit() for _ in range(3))
            endpoint.take("w1", 2)
            endpoint.done(finished)
            endpoint.piece(running, b'{"output":"a"}')
            endpoint.progress(running)
            key = {"Idempotency-Key": "k"}
            keyed = endpoint.call("POST", "run", json={"input": {"k": 1}}, headers=key).json()["id"]
            before = [endpoint.status(j) for j in (finished, running, queued)]
        with Endpoint(tmp_path) as endpoint:
            assert [endpoint.status(j) for j in (finished, running, queued)] == before
            assert endpoint.call("GET", f"stream/{running}?from=0").json()["stream"] == [{"output": "a", "n": 0}]
            assert endpoint.call("POST", "run", json={"input": {"k": 1}}, headers=key).json()["id"] == keyed
            endpoint.ping("w1", running)
            endpoint.done(running)
            assert endpoint.status(running)["status"] == "COMPLETED"
            assert ids(endpoint.take("w2", 2)) == [queued, keyed]

    def test_workers_that_do_not_come_back_are_lost(self, tmp_path: Path) -> None:
        with Endpoint(tmp_path) as endpoint:
            gone, back = endpoint.submit(), endpoint.submit()
            endpoint.take("w1")
            endpoint.take("w2")
        with Endpoint(tmp_path) as endpoint:
            endpoint.clock.advance(2)
            endpoint.ping("w2", back)
            endpoint.clock.advance(2)
            endpoint.tick()
            assert (endpoint.status(gone)["status"], endpoint.status(back)["status"]) == ("IN_QUEUE", "IN_PROGRESS")

    def test_held_polls_do_not_delay_the_stop(self, tmp_path: Path) -> None:
        with Endpoint(tmp_path, hold_s=60) as endpoint:
            poll = endpoint.take_later("w1")
            stops = endpoint.later_call(endpoint.worker, "GET", "job-stop/w1?gpu=X")
            job_id = endpoint.submit()
            endpoint.call("POST", f"cancel/{job_id}")
            stream = endpoint.later_call(endpoint.call, "GET", f"stream/{endpoint.submit()}?wait=60000")
            until(lambda: poll.done())
            began = time.monotonic()
        assert (stops.result().status_code, stream.result().status_code) in ((204, 200), (200, 200))
        assert time.monotonic() - began < 30


@pytest.mark.parametrize("size", ["-1", "0", "99999"])
def test_odd_batch_sizes_are_moved_into_bounds(endpoint: Endpoint, size: str) -> None:
    endpoint.submit()
    assert len(endpoint.worker("GET", f"job-take-batch/w1?gpu=X&batch_size={size}").json()) == 1
