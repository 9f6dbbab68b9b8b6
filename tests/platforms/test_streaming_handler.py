"""The handlers that the SDK is given, without the SDK: whoever drops them, and whatever they are given."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import handlers
from platforms.runpod.jobs import Worker
from platforms.runpod.stream import StreamingHandler
from shared.runner import Runner
from shared.settings import Settings
from tests.platforms.lab import HANDLERS

WAIT_S = 20


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    (tmp_path / "models.json").write_text("[]")
    settings = Settings(models=tmp_path / "models.json", pipeline="tell")
    runner = Runner(settings, handlers.Folders(HANDLERS))
    yield Worker(runner, on_runpod=False)
    runner.lane.close()


def held(tmp_path: Path) -> dict[str, Any]:
    """A job that says one piece, and waits for ever."""
    return {"id": "job", "input": {"gate": str(tmp_path / "gate")}}


def test_a_generator_that_is_dropped_stops_its_job(worker: Worker, tmp_path: Path) -> None:
    async def run() -> Any:
        heard = StreamingHandler(worker).handle(held(tmp_path))
        first = await asyncio.wait_for(anext(heard), WAIT_S)
        await asyncio.wait_for(heard.aclose(), WAIT_S)
        return first

    assert asyncio.run(run()) == "one "
    assert len(worker.runner.backlog) == 0


def test_a_generator_that_is_cancelled_while_it_waits_ends_when_its_job_is_off_the_device(
    worker: Worker, tmp_path: Path
) -> None:
    async def run() -> None:
        heard = StreamingHandler(worker).handle(held(tmp_path))
        await asyncio.wait_for(anext(heard), WAIT_S)
        waiting = asyncio.ensure_future(anext(heard))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert len(worker.runner.backlog) == 0

    asyncio.run(run())


def test_a_stop_from_outside_ends_the_job_as_the_generators_own(worker: Worker, tmp_path: Path) -> None:
    async def run() -> list[Any]:
        heard = StreamingHandler(worker).handle(held(tmp_path))
        await asyncio.wait_for(anext(heard), WAIT_S)
        await asyncio.wait_for(worker.stop("another"), WAIT_S)
        assert len(worker.runner.backlog) == 1
        await asyncio.wait_for(worker.stop("job"), WAIT_S)
        return [piece async for piece in heard]

    (last,) = asyncio.run(run())
    assert last["error"].startswith("cancelled: ")


def test_stops_that_come_again_and_again_do_not_leave_the_job_on_the_device(worker: Worker, tmp_path: Path) -> None:
    gate = tmp_path / "gate"

    async def run() -> None:
        heard = StreamingHandler(worker).handle({"id": "job", "input": {"gate": str(gate), "deaf": True}})
        await asyncio.wait_for(anext(heard), WAIT_S)
        waiting = asyncio.ensure_future(anext(heard))
        for _ in range(5):
            await asyncio.sleep(0)
            waiting.cancel()
        assert not waiting.done()
        gate.touch()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(waiting, WAIT_S)
        assert len(worker.runner.backlog) == 0

    asyncio.run(run())


@pytest.mark.parametrize("came_by", [{}, {"openai_route": "/v1/completions", "openai_input": {}}])
def test_an_error_of_the_adapter_is_hidden_too(worker: Worker, came_by: dict[str, Any]) -> None:
    """The SDK would send its traceback to the caller."""
    broken = {"id": "job", "input": {"pieces": ["a"], **came_by}, "policy": "none"}

    async def run() -> list[Any]:
        return [piece async for piece in StreamingHandler(worker).handle(broken)] + [await worker.handle(broken)]

    streamed, whole = asyncio.run(run())
    assert "an error of this worker" in streamed["error"]
    assert "an error of this worker" in whole["error"]
    assert "Traceback" not in streamed["error"] + whole["error"]


def test_an_error_holds_nothing_that_the_sdk_cannot_post(worker: Worker) -> None:
    asked = {"id": "job", "input": {"openai_route": "/v1/models/\ud83d"}}
    answer = asyncio.run(worker.handle(asked))
    assert "no model" in answer["error"]
    answer["error"].encode()
