"""Synchronous routes, one for each pipeline that a worker serves: a request waits for its result."""

import asyncio
import secrets
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import TypeAdapter, ValidationError

from shared.errors import ENDINGS
from shared.jobs import llm
from shared.jobs.accept import preferred_file
from shared.jobs.answers import Admitted, file_answer, json_answer, postponed, refusal
from shared.jobs.dialect import MP4, dialect_of
from shared.jobs.direct import Endpoint
from shared.jobs.document import operation
from shared.jobs.forms import Fields, Given, read_request
from shared.jobs.performer import Performance, Performer, Unfinished
from shared.jobs.sse import Events, TextEvents, streamed
from shared.jobs.terms import terms_of
from shared.jobs.uploads import Uploads
from shared.jobs.wire import disconnected
from shared.schemas import Handler, Params

PATIENT_S = 0.02  # a job that ends sooner needs nobody to watch whether its client is still there
GONE = "the client hung up"
_FLAG = TypeAdapter(bool)
Check = Callable[[Request], Awaitable[None]]


class RestRouter(APIRouter):
    """`POST /{pipeline}` for each handler, and `/llm` where one writes text.

    Args:
        check: lets a request pass, or raises Unauthorized.
        uploads: the room for bodies.
        text_model: what `/llm` says has answered, where a request names no model.
    """

    def __init__(
        self,
        handlers: Mapping[str, Handler],
        performer: Performer,
        *,
        check: Check,
        uploads: Uploads,
        text_model: str = "",
    ) -> None:
        super().__init__(tags=["generate"])
        self.endpoints: dict[str, Endpoint] = {}  # by path, for `direct.Direct`
        for pipeline, handler in handlers.items():
            route = PipelineRoute(pipeline, handler, performer, check, uploads)
            self._add(pipeline, route, handler)
        if llm.PIPELINE in handlers:
            self._add(llm.NAME, LLMRoute(performer, check, uploads, text_model), None)

    def _add(self, name: str, route: "_Route", handler: Handler | None) -> None:
        self.endpoints[f"/{name}"] = route.answer
        self.add_api_route(
            f"/{name}",
            route.answer,
            methods=["POST"],
            response_class=Response,
            openapi_extra=operation(name, handler),
        )


class _Route(ABC):
    """What all routes share: a request that was let in is read, run and answered."""

    def __init__(self, params: type[Params], performer: Performer, check: Check, uploads: Uploads) -> None:
        self._fields = Fields(params)
        self._performer = performer
        self._check = check
        self._uploads = uploads

    async def answer(self, request: Request) -> Response:
        """Run a request's job, and answer with its result."""
        try:
            await self._check(request)
            with ExitStack() as inside:
                inside.enter_context(self._performer.admit())
                given = await read_request(request, self._fields, self._uploads)
                return Admitted(await self._perform(request, given), inside.pop_all())
        except ENDINGS as ending:
            return refusal(ending)
        except Unfinished as unfinished:
            return postponed(unfinished.endpoint, unfinished.job_id)

    @abstractmethod
    async def _perform(self, request: Request, given: Given) -> Response:
        """Raises: JobError, Stopped: the job's ending."""

    async def _streamed(self, request: Request, job_input: Given, events: Events) -> Response:
        terms = terms_of(request)
        return await streamed(request, lambda push: self._performer.start(job_input, push, terms), events)

    def _start(self, request: Request, job_input: Given) -> Performance:
        return self._performer.start(job_input, lambda piece: None, terms_of(request))


class PipelineRoute(_Route):
    """One pipeline as a route."""

    def __init__(self, pipeline: str, handler: Handler, performer: Performer, check: Check, uploads: Uploads) -> None:
        super().__init__(handler.params, performer, check, uploads)
        self._pipeline = pipeline
        self._names = handler.params.model_fields
        self._streams = handler.stream and "stream" in self._names
        self._dialect = dialect_of(pipeline)

    async def _perform(self, request: Request, given: Given) -> Response:
        file_type = self._file_type(request, given)
        job_input = {**self._dialect.job_input(self._for_file(given, file_type)), "pipeline": self._pipeline}
        if self._streams and _is_wanted(job_input, "stream"):
            return await self._streamed(request, job_input, TextEvents())
        performance = self._start(request, job_input)
        result = await outcome(request, performance)
        file = file_answer(result, file_type, performance.job_id) if file_type else None
        return file or json_answer(self._dialect.answer(result), performance.job_id)

    def _file_type(self, request: Request, given: Given) -> str | None:
        """The media type of the file that is wanted alone, by `Accept` or `output=mp4`."""
        accept = request.headers.get("Accept", "")
        if given.get("output") == MP4 and "output" in self._names:
            given["output"] = "video"
            return None if "json" in accept else "video/mp4"
        return preferred_file(accept)

    def _for_file(self, given: Given, file_type: str | None) -> Given:
        """The parameters, so that the run makes a file of that type where they leave it open."""
        if file_type is None:
            return given
        kind, _, name = file_type.partition("/")
        wanted = {f"{kind}_format": name, **({"output": "video"} if kind == "video" else {})}
        return {**{field: value for field, value in wanted.items() if field in self._names}, **given}


def _is_wanted(job_input: Given, name: str) -> bool:
    """Whether a flag is set, in any way that validation will read; one that is not given is set to false."""
    if job_input.get(name) is None:
        job_input[name] = False  # a queued job's text streams unless it says otherwise
    try:
        return _FLAG.validate_python(job_input[name])
    except ValidationError:
        return False


class LLMRoute(_Route):
    """Chats as Livepeer's runner takes them."""

    def __init__(self, performer: Performer, check: Check, uploads: Uploads, text_model: str) -> None:
        super().__init__(llm.LLMRequest, performer, check, uploads)
        self._text_model = text_model

    async def _perform(self, request: Request, given: Given) -> Response:
        asked = llm.read(given)
        chat = llm.Chat(f"llm-{secrets.token_hex(12)}", asked.model or self._text_model)
        if asked.stream:
            return await self._streamed(request, asked.job_input(), chat)
        performance = self._start(request, asked.job_input())
        return json_answer(chat.whole(await outcome(request, performance)), performance.job_id)


async def outcome(request: Request, performance: Performance) -> dict[str, Any]:
    """The result of a job, which is stopped when its client leaves.

    Raises:
        JobError, Stopped: its ending.
        Unfinished: it goes on without this request.
    """
    watch: asyncio.Future[None] | None = None

    def begin_to_watch() -> None:
        nonlocal watch
        watch = asyncio.ensure_future(_stop_when_gone(request, performance))

    patience = asyncio.get_running_loop().call_later(PATIENT_S, begin_to_watch)
    try:
        return await asyncio.shield(performance.ended)  # which others may be waiting for
    finally:
        patience.cancel()
        if watch:
            watch.cancel()
        performance.stop(GONE)


async def _stop_when_gone(request: Request, performance: Performance) -> None:
    await disconnected(request)
    performance.stop(GONE)
