"""What the containers for a model are asked for, and what Modal's endings become."""

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import modal
import pytest
from grpclib import GRPCError, Status
from modal_proto import api_pb2

import handlers
from platforms.modal.calls import EngineCalls, card, options
from platforms.modal.web import planners
from shared.errors import InsufficientCapacity, NotFound, QueueFull
from shared.models.catalog import Entry
from shared.settings import Settings
from tests.platforms.modal.calls import Result
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
    assert card([entry(gpu_memory_gb=4, gpu_type="T4"), entry(gpu_memory_gb=30)]) == "L40S"
    assert card([entry(gpu_memory_gb=30), entry(gpu_type="H100")]) == "H100"
    assert card([]) == "L4"


def test_limits_leave_room_around_the_run() -> None:
    assert options([entry()], 900.5)["timeout"] > 1401
    assert options([], 3600)["timeout"] > 4100
    assert options([], 10**6)["timeout"] == 24 * 3600
    assert options([entry(idle_s=0)], 60)["scaledown_window"] == 2
    assert options([entry(idle_s=99_999)], 60)["scaledown_window"] == 3600


@pytest.mark.parametrize("wrong", ["", "H100:9", "H100 80GB", "L40S;A100"])
def test_a_card_that_cannot_be_one_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="gpu_type"):
        entry(gpu_type=wrong)


def test_models_of_nodes_are_not_served(tmp_path: Path) -> None:
    path = tmp_path / "models.json"
    path.write_text('[{"pipeline": "text-to-image", "model_id": "a/b", "url": "https://node.test"}]')
    assert planners(Settings(models=path), handlers.Folders(None)) == {}


class Refusing:
    """A service that tells nobody how calls end."""

    async def function_get_outputs(self, request: api_pb2.FunctionGetOutputsRequest) -> None:
        raise GRPCError(Status.PERMISSION_DENIED, "not now")


class Unreachable:
    """A service whose bucket does not answer."""

    async def blob_get(self, request: api_pb2.BlobGetRequest) -> api_pb2.BlobGetResponse:
        return api_pb2.BlobGetResponse(download_url="http://127.0.0.1:9/")


class TestOnModal:
    """Through Modal's client; no call of these gets as far as a container."""

    @pytest.fixture
    def full(self, tmp_path: Path, deployed: Stock) -> Iterator[Plane]:
        with Plane(tmp_path, deployed, max_containers=0) as plane, plane.client_env():
            yield plane

    @pytest.fixture
    def calls(self, full: Plane) -> EngineCalls:
        engine = modal.Cls.from_name("pilotlight", "Engine")
        webhook = modal.Function.from_name("pilotlight", "webhook")
        return EngineCalls(engine, webhook, [entry()], Settings(job_timeout_s=3600))

    async def spawned(self, calls: EngineCalls) -> str:
        (planner, *_) = planners(Settings(), handlers.Folders(None)).values()
        plan = planner.plan({"pipeline": "text-to-image", "model_id": "stabilityai/sdxl-turbo", "prompt": "a"})
        return await calls.spawn(plan, given({}))

    @pytest.mark.anyio
    async def test_each_model_has_containers_of_its_own_on_its_card(self, full: Plane, calls: EngineCalls) -> None:
        call = full.calls.all[await self.spawned(calls)]
        assert call.function.parameters == {"pipeline": "text-to-image", "model_id": "stabilityai/sdxl-turbo"}
        assert call.function.gpus == ["L4"]
        assert call.function.options.timeout_secs > 3600  # else Modal would end it before JOB_TIMEOUT_S

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
    async def test_a_question_that_modal_does_not_answer_is_no_end(self, full: Plane, calls: EngineCalls) -> None:
        call = await self.spawned(calls)
        full.service.rooms.insert(0, Refusing())
        with pytest.raises(InsufficientCapacity):
            await calls.ended(call, 0)
        del full.service.rooms[0]
        assert await calls.ended(call, 0) is None

    @pytest.mark.anyio
    async def test_a_large_result_that_cannot_be_fetched_now_is_not_lost(
        self, full: Plane, calls: EngineCalls
    ) -> None:
        call = await self.spawned(calls)
        full.service.rooms.insert(0, Unreachable())
        done = Result(status=Result.GENERIC_STATUS_SUCCESS, data_blob_id="bl-1")
        full.calls.all[call].finish(done, api_pb2.DATA_FORMAT_PICKLE)
        with pytest.raises(InsufficientCapacity):
            await calls.ended(call, 0)

    @pytest.mark.anyio
    async def test_a_container_that_cannot_start_ends_its_call(self, full: Plane, calls: EngineCalls) -> None:
        call = await self.spawned(calls)
        why = Result(status=Result.GENERIC_STATUS_FAILURE, data=pickle.dumps(ModuleNotFoundError("torch")))
        full.calls.all[call].finish(why, api_pb2.DATA_FORMAT_PICKLE)
        ended = await calls.ended(call, 0)
        assert ended is not None
        assert (ended["status"], "ModuleNotFoundError" in ended["error"]) == ("FAILED", True)

    @pytest.mark.anyio
    async def test_a_full_queue_is_said(
        self, full: Plane, calls: EngineCalls, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MODAL_MAX_THROTTLE_WAIT", "1")
        full.calls.max_waiting = 0
        with pytest.raises(QueueFull):
            await self.spawned(calls)
