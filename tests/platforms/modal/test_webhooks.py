"""Who calls a job's webhook, how often, and that it is called whatever became of the job's container."""

import json
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from platforms.modal.jobs import Ended
from platforms.modal.webhooks import Webhooks
from shared.errors import DeadlineExceeded, InsufficientCapacity
from tests.platforms.harness import WebhookSink, until
from tests.platforms.modal.conftest import AUTH_TOKEN
from tests.platforms.modal.gateway import Gateway, deployed_web
from tests.platforms.modal.plane import Plane
from tests.platforms.modal.records import Stock
from tests.platforms.modal.stand_in import Entries, MemoryBoard
from tests.shared.media.loopback import loopback, reply

HOOK = "https://example.com/hook"
DONE: Ended = {"status": "COMPLETED", "output": b'{"a":1}', "delay_ms": 5, "execution_ms": 7, "worker": "ta-1"}


class Told:
    """One job on a board, the ends that Modal tells of it one after the other, and who hears of it."""

    def __init__(self, *ends: Ended | Exception | None) -> None:
        self.entries = Entries()
        self.sink = WebhookSink()
        record = {"endpoint": "media", "call": "fc-1", "created_ms": 1, "webhook": HOOK}
        self.entries.update({"j/record": record})
        self._ends = list(ends)

    async def ended(self, call: str, timeout_s: float) -> Ended | None:
        told = self._ends.pop(0)
        if isinstance(told, Exception):
            raise told
        return told

    async def follow(self, created_ms: int = 1, job_id: str = "j") -> bool:
        webhooks = Webhooks(MemoryBoard(self.entries), self.ended, self.sink.post, time.time)
        return await webhooks.follow("media", job_id, created_ms, {"prompt": "a"})

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.sink.calls]


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platforms.modal.webhooks.DELAYS_S", (0, 0, 0))
    monkeypatch.setattr("platforms.modal.webhooks.PAUSE_S", 0)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.anyio
class TestFollowing:
    """Beside one job."""

    async def test_the_end_is_waited_for_and_told_once(self) -> None:
        told = Told(None, InsufficientCapacity("Modal is away"), DONE)
        assert await told.follow()
        (body,) = told.bodies
        assert body == {
            "id": "j",
            "status": "COMPLETED",
            "output": {"a": 1},
            "workerId": "ta-1",
            "delayTime": 5,
            "executionTime": 7,
            "input": {"prompt": "a"},
            "webhook": HOOK,
        }

    async def test_three_tries_are_made(self) -> None:
        told = Told(DONE)
        told.sink.answers = [500, ConnectionError("no"), 404]
        assert await told.follow()
        assert len(told.bodies) == 3

    async def test_tries_are_counted_over_containers_that_are_lost(self) -> None:
        told = Told(DONE)
        told.entries.update({"j/webhook": 2})
        told.sink.answers = [500, 200]
        assert await told.follow()
        assert len(told.bodies) == 1

    async def test_what_was_delivered_is_not_told_again(self) -> None:
        told = Told(DONE, DONE)
        assert await told.follow()
        assert await told.follow()
        assert len(told.bodies) == 1

    async def test_a_cancelled_job_is_told_of_once_it_can_end_in_no_other_way(self) -> None:
        told = Told(None, DONE)
        told.entries.update({"j/ended": {"status": "CANCELLED"}})
        assert await told.follow()
        assert [body["status"] for body in told.bodies] == ["COMPLETED"]

    async def test_a_job_that_was_never_queued_is_not_told_of(self) -> None:
        told = Told()
        assert await told.follow(created_ms=2)  # submitted again by its id, and followed by another
        assert await told.follow(job_id="never")
        assert told.bodies == []

    async def test_what_takes_longer_than_a_call_may_is_left_to_the_next_one(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("platforms.modal.webhooks.LONGEST_S", 0)
        assert not await Told(None).follow()


def test_a_job_that_modal_ends_at_its_limit_is_told_of(
    tmp_path: Path, own_deployed: Stock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platforms.modal.calls.AROUND_RUN_S", 2 - 600)
    with ExitStack() as stack:
        hook = stack.enter_context(loopback({"/hook": reply(200)}))
        plane = stack.enter_context(Plane(tmp_path, own_deployed))
        plane.secret("pilotlight-settings").env["ALLOW_PRIVATE_HOSTS"] = hook.netloc
        stack.enter_context(plane.client_env())
        for name in ("HANDLERS", "MODELS"):
            monkeypatch.setenv(name, plane.image_env("web")[name])
        monkeypatch.setenv("AUTH_TOKEN", AUTH_TOKEN)
        client = stack.enter_context(stack.enter_context(Gateway(deployed_web, AUTH_TOKEN)).client())
        job_id = client.submit({"pipeline": "nap", "ms": 60_000}, webhook=hook.url("/hook"))
        with pytest.raises(DeadlineExceeded):
            client.wait(job_id)
        told = json.loads(until(lambda: hook.seen, 60)[0].body)
        assert (told["id"], told["status"], told["input"]["ms"]) == (job_id, "TIMED_OUT", 60_000)
        assert plane.tasks("Engine.*") == []
