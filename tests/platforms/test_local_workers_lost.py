"""Workers that are lost, and an endpoint that starts again: which jobs run once more."""

import time
from pathlib import Path

from tests.platforms.harness import Endpoint, ids, until


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
        endpoint.progress(started)
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
        endpoint.progress(started)
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
            endpoint.progress(job_id)
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
        endpoint.progress(job_id)
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
