"""Modal's gRPC service, as `modal_proto` describes it, answered by rooms: objects with a method for each call."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from google.protobuf.message_factory import GetMessageClass
from grpclib import GRPCError, Status
from grpclib.const import Cardinality, Handler
from grpclib.server import Stream
from modal_proto import api_pb2

TASK_HEADER = "x-task"  # Modal knows a container by its socket; ours say who they are
TOKEN_ID = "ak-plane"
TOKEN_SECRET = "as-plane"


def in_lower_case(call: str) -> str:
    """`FunctionGetInputs` is the method `function_get_inputs`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", call).lower()


class Service:
    """All calls of the service: `rooms` answer a request, `for_containers` a request and the id of who asks."""

    def __init__(self, rooms: list[object], for_containers: object) -> None:
        self.rooms = rooms
        self.for_containers = for_containers
        self.unanswered: list[str] = []

    def __mapping__(self) -> dict[str, Handler]:
        service = api_pb2.DESCRIPTOR.services_by_name["ModalClient"]
        return {f"/{service.full_name}/{method.name}": self._handler(method) for method in service.methods}

    def _handler(self, method: Any) -> Handler:
        answer = self._stream if method.server_streaming else self._unary
        cardinality = Cardinality.UNARY_STREAM if method.server_streaming else Cardinality.UNARY_UNARY

        async def handle(stream: "Stream[Any, Any]") -> None:
            await answer(method.name, stream)

        return Handler(handle, cardinality, GetMessageClass(method.input_type), GetMessageClass(method.output_type))

    async def _unary(self, call: str, stream: "Stream[Any, Any]") -> None:
        method, given = await self._asked(call, stream)
        await stream.send_message(await method(*given))

    async def _stream(self, call: str, stream: "Stream[Any, Any]") -> None:
        method, given = await self._asked(call, stream)
        async for message in method(*given):
            await stream.send_message(message)

    async def _asked(self, call: str, stream: "Stream[Any, Any]") -> tuple[Callable[..., Any], list[Any]]:
        """The method that answers, and what it gets."""
        request, name = await stream.recv_message(), in_lower_case(call)
        metadata: Mapping[str, Any] = stream.metadata or {}
        task_id = metadata.get(TASK_HEADER)
        tokens = (metadata.get("x-modal-token-id"), metadata.get("x-modal-token-secret"))
        if task_id is None and tokens != (TOKEN_ID, TOKEN_SECRET):
            raise GRPCError(Status.UNAUTHENTICATED, "Token ID is malformed or unknown")
        if task_id is not None and hasattr(self.for_containers, name):
            return getattr(self.for_containers, name), [request, task_id]
        for room in self.rooms:
            if hasattr(room, name):
                return getattr(room, name), [request]
        self.unanswered.append(call)
        raise GRPCError(Status.UNIMPLEMENTED, f"the stand-in has no {call}")
