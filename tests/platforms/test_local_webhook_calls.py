"""When the endpoint calls webhooks, and how often it tries."""

import json
from pathlib import Path

from tests.platforms.harness import Endpoint, until


def due(endpoint: Endpoint, job_id: str) -> float | None:
    return endpoint.desk.ledger.find(job_id).webhook_due_at


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
