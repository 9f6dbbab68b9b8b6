"""What two web containers, lost containers and clients that leave do to a job: it runs once, or not at all."""

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import handlers
from platforms.modal.backend import ModalBackend
from platforms.modal.jobs import Ended
from platforms.modal.performer import ModalPerformer, Performing
from platforms.modal.web import planners
from shared.errors import Cancelled, InsufficientCapacity, Internal, InvalidInput, NotFound
from shared.job import Piece
from shared.jobs.backend import Policy, Submission
from shared.jobs.terms import Terms
from shared.plan import Plan
from shared.settings import Settings
from tests.platforms.lab import HANDLERS
from tests.platforms.modal.stand_in import Entries, FullShelf, MemoryBoard, WorkerCalls, no_models

SHORT = {"pipeline": "sleep", "ms": 1}
HOOK = "http://hook.test/"

pytestmark = pytest.mark.anyio


class SharedBoard(MemoryBoard):
    """Lets others in at each question; `loses_calls` when it is told to, and is slow to take the first record."""

    def __init__(self, entries: Entries) -> None:
        super().__init__(entries)
        self.loses_calls = False
        self._turns = 20

    async def get(self, name: str) -> Any:
        await asyncio.sleep(0)
        return await super().get(name)

    async def put(self, name: str, entry: Any, *, is_new: bool = False) -> bool:
        await asyncio.sleep(0)
        while name.endswith("/record") and self._turns:
            self._turns -= 1
            await asyncio.sleep(0)
        if self.loses_calls and name.endswith("/record") and entry["call"]:
            raise ConnectionError("the board is away")
        return await super().put(name, entry, is_new=is_new)


class SlowCalls(WorkerCalls):
    """Queues a job once it `is_open`; the other questions fail as often as `failing` says.

    A cancel that `comes_late` finds the job done.
    """

    def __init__(self, entries: Entries, settings: Settings) -> None:
        super().__init__(entries, settings)
        self.is_open = asyncio.Event()
        self.is_open.set()
        self.failing: dict[str, int] = {}
        self.comes_late = False
        self.asked = asyncio.Event()
        self.stopped: list[str] = []

    async def spawn(self, plan: Plan, job: Mapping[str, Any]) -> str:
        self.asked.set()
        await self.is_open.wait()
        return await super().spawn(plan, job)

    async def ended(self, call: str, timeout_s: float) -> Ended | None:
        if self._fails("ended"):
            raise InsufficientCapacity("Modal does not say")
        return await super().ended(call, timeout_s)

    async def cancel(self, call: str) -> None:
        if self._fails("cancel"):
            raise ConnectionError("Modal is away")
        if self.comes_late:
            await asyncio.wait({self.tasks[call]})
        await super().cancel(call)
        self.stopped.append(call)

    def _fails(self, question: str) -> bool:
        left = self.failing.get(question, 0)
        self.failing[question] = left - 1
        return left > 0


class Site:
    """Web containers over one board and the same calls."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings(models=no_models(folder), handlers=HANDLERS, device="cpu")
        self.entries = Entries()
        self.board = SharedBoard(self.entries)
        self.calls = SlowCalls(self.entries, self.settings)
        self.diary = folder / "diary"

    def web(self) -> ModalBackend:
        planner = planners(self.settings, handlers.Folders(HANDLERS))["media"]
        return ModalBackend("media", planner, self.board, self.calls, FullShelf(), time.time)

    def performer(self) -> ModalPerformer:
        backend = self.web()
        return ModalPerformer(lambda pipeline: backend)

    def held(self) -> dict[str, Any]:
        return {"pipeline": "sleep", "ms": 60_000, "steps": 6000, "diary": str(self.diary)}

    def seen(self) -> list[str]:
        return [line.split()[-2] for line in self.diary.read_text().splitlines()] if self.diary.exists() else []

    async def until(self, condition: Any) -> None:
        async with asyncio.timeout(20):
            while not condition():
                await asyncio.sleep(0.01)

    async def is_free(self) -> None:
        """Nothing runs any more, and what was to be told has been."""
        for tasks in (self.calls.tasks.values(), self.calls.following):
            await self.until(lambda tasks=tasks: all(task.done() for task in tasks))


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setattr("platforms.modal.webhooks.DELAYS_S", (0,))
    return Site(tmp_path)


async def ending(performing: Performing) -> BaseException | None:
    await asyncio.wait({performing.ended}, timeout=20)
    return performing.ended.exception()


async def test_one_key_in_two_containers_at_once_is_one_job(site: Site) -> None:
    submission = Submission(SHORT, idempotency_key="k")
    first, second = await asyncio.gather(site.web().submit(submission), site.web().submit(submission))
    assert first.id == second.id
    assert len(site.calls.jobs) == 1


async def test_an_id_of_a_client_is_never_that_of_another_job(site: Site) -> None:
    await site.web().submit(Submission(SHORT), job_id="mine")
    before = site.entries.get("mine/record")
    with pytest.raises(InvalidInput, match="X-Job-Id"):
        await site.web().submit(Submission({**SHORT, "name": "another"}), job_id="mine")
    refused = site.performer().start({**SHORT, "name": "a third"}, lambda piece: None, Terms("mine"))
    assert isinstance(await ending(refused), InvalidInput)
    assert site.entries.get("mine/record") == before
    assert (await site.web().wait("mine", 20)).status == "COMPLETED"


async def test_a_job_that_is_cancelled_while_it_is_queued_is_stopped(site: Site) -> None:
    site.calls.is_open.clear()
    queueing = asyncio.create_task(site.web().submit(Submission(site.held()), job_id="j"))
    await site.calls.asked.wait()
    assert (await site.web().cancel("j")).status == "CANCELLED"
    site.calls.is_open.set()
    await queueing
    await site.is_free()
    assert site.calls.stopped == ["fc-0"]


async def test_a_client_that_leaves_while_its_job_is_queued_stops_it(site: Site) -> None:
    site.calls.is_open.clear()
    performing = site.performer().start(site.held(), lambda piece: None)
    await site.calls.asked.wait()
    performing.stop("the client hung up")
    asyncio.get_running_loop().call_later(0.1, site.calls.is_open.set)
    assert isinstance(await ending(performing), Cancelled)
    await site.is_free()
    assert site.calls.stopped == ["fc-0"]
    assert (await site.web().status(performing.job_id)).status == "CANCELLED"


async def test_no_call_is_left_whose_id_could_not_be_written(site: Site) -> None:
    site.board.loses_calls = True
    with pytest.raises(ConnectionError):
        await site.web().submit(Submission(site.held()), job_id="j")
    await site.is_free()
    assert site.calls.stopped == ["fc-0"]
    with pytest.raises(NotFound):
        await site.web().status("j")


async def test_a_job_that_was_given_up_does_not_run_later(site: Site) -> None:
    web = site.web()
    job_id = (await web.submit(Submission(SHORT))).id
    await site.is_free()
    del site.entries.all[f"{job_id}/state"]
    record = site.entries.get(f"{job_id}/record")
    site.entries.update({f"{job_id}/record": {**record, "call": None, "created_ms": record["created_ms"] - 200_000}})
    assert (await web.status(job_id)).status == "FAILED"
    plan = web.planner.plan(site.held())
    call = await site.calls.spawn(plan, {**site.calls.jobs[0], "input": site.held()})
    ended = await site.calls.ended(call, 20)
    assert ended is not None
    assert ended["status"] == "CANCELLED"
    assert site.seen() == []


async def test_a_cancel_that_did_not_reach_modal_can_be_asked_for_again(site: Site) -> None:
    web = site.web()
    job_id = (await web.submit(Submission(site.held()))).id
    await site.until(lambda: site.seen() == ["start"])
    site.calls.failing["cancel"] = 1
    with pytest.raises(ConnectionError):
        await web.cancel(job_id)
    assert (await web.cancel(job_id)).status == "CANCELLED"
    await site.is_free()
    assert site.seen() == ["start", "end"]


async def test_a_job_that_completes_while_it_is_cancelled_is_told_of_once(site: Site) -> None:
    web = site.web()
    job_id = (await web.submit(Submission({**SHORT, "ms": 300, "diary": str(site.diary)}, webhook=HOOK))).id
    await site.until(lambda: site.seen() == ["start"])
    call = site.entries.get(f"{job_id}/record")["call"]
    site.calls.comes_late = True
    assert (await web.cancel(job_id)).status == "COMPLETED"
    assert site.calls.tasks[call].result()["status"] == "COMPLETED"
    await site.is_free()
    assert [told["status"] for told in site.calls.told] == ["COMPLETED"]


async def test_a_webhook_tells_of_each_end_with_the_input_that_no_poll_reads(site: Site) -> None:
    web = site.web()
    job_id = (await web.submit(Submission(site.held(), webhook=HOOK))).id
    assert "input" not in site.entries.get(f"{job_id}/record")
    await web.cancel(job_id)
    await site.is_free()
    (told,) = site.calls.told
    assert (told["status"], told["input"], told["webhook"]) == ("CANCELLED", site.held(), HOOK)
    failed = await web.submit(Submission({**SHORT, "ms": -1}, webhook=HOOK))
    await site.is_free()
    told = site.calls.told[-1]
    assert (told["id"], told["status"], told["input"]["ms"]) == (failed.id, "FAILED", -1)


async def test_a_deadline_ends_a_job(site: Site) -> None:
    web = site.web()
    job_id = (await web.submit(Submission(site.held(), policy=Policy(execution_timeout_ms=200)))).id
    assert (await web.wait(job_id, 20)).status == "TIMED_OUT"
    assert site.seen() == ["start", "end"]


async def test_a_job_that_its_request_cannot_follow_is_stopped(site: Site) -> None:
    site.calls.failing["ended"] = 2  # of which the second is before the cancel
    performing = site.performer().start(site.held(), lambda piece: None)
    assert isinstance(await ending(performing), InsufficientCapacity)
    await site.is_free()


class TestText:
    """Text that is handed on while it is written, also by a pipeline beside those of media."""

    @staticmethod
    def tell(folder: Path, **more: Any) -> dict[str, Any]:
        return {"pipeline": "tell", "gate": str(folder / "gate"), **more}

    async def test_leaves_in_pieces_for_longer_than_modal_holds_a_request(
        self, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("platforms.modal.performer.LONGEST_WAIT_S", 0.01)
        heard: list[Piece] = []
        performing = site.performer().start(self.tell(tmp_path), heard.append)
        await site.until(lambda: heard)
        (tmp_path / "gate").touch()
        assert await ending(performing) is None
        assert "".join(str(piece.value) for piece in heard) == "one two three"
        assert performing.ended.result()["text"] == "one two three"

    async def test_that_begins_anew_is_not_said_twice(self, site: Site, tmp_path: Path) -> None:
        heard: list[Piece] = []
        performing = site.performer().start(self.tell(tmp_path), heard.append)
        await site.until(lambda: heard)
        said = len(heard)
        state = site.entries.get(f"{performing.job_id}/state")
        page = {f"{performing.job_id}/events/{state['next']}": [("piece", b'"one "')]}
        anew = {"first": state["next"], "next": state["next"] + 1, "starts": [state["next"]]}
        site.entries.update({**page, f"{performing.job_id}/state": {**state, **anew, "runs": 2}})
        error = await ending(performing)
        assert isinstance(error, Internal)
        assert "ask again" in str(error)
        assert len(heard) == said
        await site.is_free()

    async def test_whole_waits_as_long_as_it_is_asked_to(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("platforms.modal.told.LONGEST_WAIT_S", 0.01)
        web = site.web()
        job_id = (await web.submit(Submission({**SHORT, "ms": 300}))).id
        assert (await web.wait(job_id, 20)).status == "COMPLETED"
