"""Function calls: what was asked, who has it, and how it ended."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from google.protobuf.empty_pb2 import Empty
from grpclib import GRPCError, Status
from modal_proto import api_pb2

from tests.platforms.modal.records import App, Function, Stock

Result = api_pb2.GenericResult
CANCELLED = Result(status=Result.GENERIC_STATUS_TERMINATED, exception="Input was cancelled by user")


@dataclass
class Call:
    """One `spawn` or `remote`, which has one input."""

    id: str
    function: Function
    input: api_pb2.FunctionInput = field(repr=False)
    kind: api_pb2.FunctionCallInvocationType.ValueType
    attempts: int = 0
    task_id: str = ""  # of the container that has it; empty while it waits
    started_at: float = 0.0
    output: api_pb2.FunctionGetOutputsItem | None = field(default=None, repr=False)
    is_expired: bool = False
    is_cancelled: bool = False

    @property
    def input_id(self) -> str:
        return self.id.replace("fc-", "in-", 1)

    def finish(
        self, result: Result, data_format: api_pb2.DataFormat.ValueType = api_pb2.DATA_FORMAT_UNSPECIFIED
    ) -> None:
        """Its first end is the one that counts."""
        if self.output is None:
            self.output = api_pb2.FunctionGetOutputsItem(
                result=result, data_format=data_format, input_id=self.input_id, task_id=self.task_id
            )

    def given(self) -> api_pb2.FunctionGetInputsItem:
        """What its container gets."""
        return api_pb2.FunctionGetInputsItem(
            input_id=self.input_id,
            input=self.input,
            function_call_id=self.id,
            function_call_invocation_type=self.kind,
            retry_count=self.attempts - 1,
        )


class Fleet(Protocol):
    """Who runs calls."""

    def scale(self) -> None:
        """Start containers for calls that wait."""

    def cancel(self, call: Call, terminate_containers: bool) -> None:
        """Stop a call that runs."""

    def number_of(self, function: Function) -> int:
        """Its living containers."""


@dataclass
class Calls:
    """All calls in their order; whoever changes one says so by `tell`, and others wait by `until`."""

    stock: Stock
    fleet: Fleet = field(init=False)
    all: dict[str, Call] = field(default_factory=dict)
    max_waiting: int = 1_000_000  # of one function
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def tell(self) -> None:
        async with self.changed:
            self.fleet.scale()
            self.changed.notify_all()

    async def until(self, condition: Callable[[], Any], timeout_s: float | None = None) -> bool:
        """Whether it came true in that time."""
        try:
            async with asyncio.timeout(timeout_s), self.changed:
                await self.changed.wait_for(condition)
        except TimeoutError:
            return bool(condition())
        return True

    def waiting(self, function: Function) -> list[Call]:
        return [c for c in self.all.values() if c.function.id == function.id and not c.task_id and c.output is None]

    def running_in(self, task_id: str) -> list[Call]:
        return [call for call in self.all.values() if call.task_id == task_id and call.output is None]

    async def function_map(self, request: api_pb2.FunctionMapRequest) -> api_pb2.FunctionMapResponse:
        (item,) = request.pipelined_inputs
        function = self.stock.functions[request.function_id]
        if len(self.waiting(function)) >= self.max_waiting:
            raise GRPCError(Status.RESOURCE_EXHAUSTED, f"{function.name} has {self.max_waiting} pending inputs")
        call = Call(self.stock.new_id("fc"), function, item.input, request.function_call_invocation_type)
        self.all[call.id] = call
        await self.tell()
        put = api_pb2.FunctionPutInputsResponseItem(idx=item.idx, input_id=call.input_id)
        return api_pb2.FunctionMapResponse(function_call_id=call.id, pipelined_inputs=[put])

    async def function_get_outputs(
        self, request: api_pb2.FunctionGetOutputsRequest
    ) -> api_pb2.FunctionGetOutputsResponse:
        call = self._call(request.function_call_id)
        await self.until(lambda: call.output or call.is_expired, request.timeout)
        if call.is_expired:
            return api_pb2.FunctionGetOutputsResponse(num_unfinished_inputs=0)
        if call.output is None:
            return api_pb2.FunctionGetOutputsResponse(num_unfinished_inputs=1)
        return api_pb2.FunctionGetOutputsResponse(outputs=[call.output], idxs=[0])

    async def function_call_from_id(
        self, request: api_pb2.FunctionCallFromIdRequest
    ) -> api_pb2.FunctionCallFromIdResponse:
        call = self._call(request.function_call_id)
        metadata = api_pb2.FunctionCallHandleMetadata(app_id=call.function.app.id, function_id=call.function.id)
        return api_pb2.FunctionCallFromIdResponse(function_call_id=call.id, num_inputs=1, metadata=metadata)

    async def function_call_cancel(self, request: api_pb2.FunctionCallCancelRequest) -> Empty:
        """One that waits is over; of one that runs, its container says so once it has stopped."""
        call = self._call(request.function_call_id)
        if call.output is None:
            call.is_cancelled = True
            if call.task_id:
                self.fleet.cancel(call, request.terminate_containers)
            else:
                call.finish(CANCELLED)
        await self.tell()
        return Empty()

    async def function_get_current_stats(
        self, request: api_pb2.FunctionGetCurrentStatsRequest
    ) -> api_pb2.FunctionStats:
        function = self.stock.functions[request.function_id]
        mine = [c for c in self.all.values() if c.function.id == function.id and c.output is None]
        running = [c for c in mine if c.task_id]
        return api_pb2.FunctionStats(
            backlog=len(mine) - len(running),
            num_running_inputs=len(running),
            num_total_tasks=self.fleet.number_of(function),
        )

    async def app_client_disconnect(self, request: api_pb2.AppClientDisconnectRequest) -> Empty:
        """What was not deployed ends with its client."""
        app = self.stock.apps[request.app_id]
        app.is_done = app.state != api_pb2.APP_STATE_DEPLOYED
        await self.tell()
        return Empty()

    async def app_get_logs(self, request: api_pb2.AppGetLogsRequest) -> AsyncIterator[api_pb2.TaskLogsBatch]:
        app, told = self.stock.apps[request.app_id], int(request.last_entry_id or 0)

        def has_news() -> bool:
            return app.is_done or told < len(app.logs)

        while await self.until(has_news) and told < len(app.logs):
            lines, told = app.logs[told:], len(app.logs)
            items = [api_pb2.TaskLogs(data=line, file_descriptor=api_pb2.FILE_DESCRIPTOR_STDOUT) for line in lines]
            yield api_pb2.TaskLogsBatch(items=items, entry_id=str(told))
        yield api_pb2.TaskLogsBatch(app_done=True)

    async def log(self, app: App, line: str) -> None:
        app.logs.append(line)
        await self.tell()

    def _call(self, call_id: str) -> Call:
        if call_id not in self.all:
            raise GRPCError(Status.NOT_FOUND, f"Function call {call_id} not found")
        return self.all[call_id]


def timed_out(call: Call) -> Result:
    seconds = call.function.definition.timeout_secs
    words = f"Task's current input in {call.input_id} hit its timeout of {seconds}s"
    return Result(status=Result.GENERIC_STATUS_TIMEOUT, exception=words)
