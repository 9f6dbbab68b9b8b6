"""What the containers for a model are asked for, and what Modal's endings become."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import modal
import pytest

import handlers
from platforms.modal.calls import EngineCalls, card, options
from platforms.modal.web import planners
from shared.errors import NotFound, QueueFull
from shared.models.catalog import Entry
from shared.settings import Settings
from tests.platforms.modal.plane import Plane
from tests.platforms.modal.records import Stock
from tests.platforms.modal.test_worker import given


def entry(**fields: Any) -> Entry:
    return Entry(pipeline="text-to-image", model_id="a/b", **fields)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, "L4"),
        ({"gpu_memory_gb": 16}, "L4"),
        ({"gpu_memory_gb": 16.5}, "L40S"),
        ({"gpu_memory_gb": 60}, "A100-80GB"),
        ({"gpu_memory_gb": 120}, "H200"),
        ({"gpu_memory_gb": 4, "gpu_type": "H100!"}, "H100!"),
    ],
)
def test_a_card_is_named_or_large_enough(fields: dict[str, Any], expected: str) -> None:
    assert card([entry(**fields)]) == expected


def test_a_chain_gets_the_card_of_its_largest_model() -> None:
    assert card([entry(gpu_memory_gb=4), entry(gpu_memory_gb=30)]) == "L40S"
    assert card([]) == "L4"


def test_limits_leave_room_around_the_run() -> None:
    assert "timeout" not in options([entry()])
    assert options([entry(timeout_s=900.5)])["timeout"] > 901
    assert options([entry(idle_s=0)])["scaledown_window"] == 2
    assert options([entry(idle_s=99_999)])["scaledown_window"] == 3600


@pytest.mark.parametrize("wrong", ["", "H100:9", "H100 80GB", "L40S;A100"])
def test_a_card_that_cannot_be_one_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="gpu_type"):
        entry(gpu_type=wrong)


class TestOnModal:
    """Through Modal's client; no call of these gets as far as a container."""

    @pytest.fixture
    def full(self, tmp_path: Path, deployed: Stock) -> Iterator[Plane]:
        with Plane(tmp_path, deployed, max_containers=0) as plane, plane.client_env():
            yield plane

    @pytest.fixture
    def calls(self, full: Plane) -> EngineCalls:
        return EngineCalls(modal.Cls.from_name("pilotlight", "Engine"), [entry()])

    async def spawned(self, calls: EngineCalls) -> str:
        (planner, *_) = planners(Settings(), handlers.Folders(None)).values()
        plan = planner.plan({"pipeline": "text-to-image", "model_id": "stabilityai/sdxl-turbo", "prompt": "a"})
        return await calls.spawn(plan, given({}))

    @pytest.mark.anyio
    async def test_each_model_has_containers_of_its_own_on_its_card(self, full: Plane, calls: EngineCalls) -> None:
        call = full.calls.all[await self.spawned(calls)]
        assert call.function.parameters == {"pipeline": "text-to-image", "model_id": "stabilityai/sdxl-turbo"}
        assert call.function.gpus == ["L4"]

    @pytest.mark.anyio
    async def test_a_call_waits_and_is_cancelled(self, calls: EngineCalls) -> None:
        call = await self.spawned(calls)
        assert await calls.ended(call, 0) is None
        await calls.cancel(call)
        ended = await calls.ended(call, 5)
        assert ended is not None
        assert ended["status"] == "FAILED"

    @pytest.mark.anyio
    async def test_what_modal_has_dropped_is_not_found(self, full: Plane, calls: EngineCalls) -> None:
        call = await self.spawned(calls)
        full.calls.all[call].is_expired = True
        for unknown in (call, "fc-never"):
            with pytest.raises(NotFound):
                await calls.ended(unknown, 0)

    @pytest.mark.anyio
    async def test_a_full_queue_is_said(
        self, full: Plane, calls: EngineCalls, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MODAL_MAX_THROTTLE_WAIT", "1")
        full.calls.max_waiting = 0
        with pytest.raises(QueueFull):
            await self.spawned(calls)
