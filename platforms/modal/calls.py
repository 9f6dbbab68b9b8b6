"""The calls of the app's GPU class, and its board, through Modal's client."""

import asyncio
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import modal
import modal.exception as failures

from platforms.modal.jobs import Ended
from shared.errors import InsufficientCapacity, NotFound, QueueFull
from shared.models.catalog import TEXT_GENERATION, Entry
from shared.plan import Plan
from shared.settings import Settings

# What a model needs on the card, in 10^9 bytes, and the cheapest card that has it with room for a run
CARDS = ((16, "L4"), (40, "L40S"), (70, "A100-80GB"), (math.inf, "H200"))
AROUND_RUN_S = 600  # Modal's limit counts a job's files, its model and its result too
LONGEST_S = 86_400  # that Modal accepts
RETRY_AFTER_S = 30
IDLE_S = (2, 3600)  # what Modal accepts
NO_ANSWER = (  # how a question to Modal fails; all else is how the call itself ended
    failures.AuthError,
    failures.ConnectionError,
    failures.InternalError,
    failures.PermissionDeniedError,
    failures.ResourceExhaustedError,
    failures.ServiceError,
    failures.ClientClosed,
)


class ModalBoard:
    """Implements jobs.Board over a `modal.Dict`."""

    def __init__(self, entries: modal.Dict) -> None:
        self._entries = entries

    async def get(self, name: str) -> Any:
        """See Board."""
        with _asking():
            return await self._entries.get.aio(name)

    async def put(self, name: str, entry: Any, *, is_new: bool = False) -> bool:
        """See Board."""
        with _asking():
            return await self._entries.put.aio(name, entry, skip_if_exists=is_new)

    async def drop(self, name: str) -> None:
        """See Board."""
        with _asking():
            await self._entries.pop.aio(name, None)


@contextmanager
def _asking() -> Iterator[None]:
    """What Modal cannot answer now can be asked again."""
    try:
        yield
    except NO_ANSWER as away:
        raise InsufficientCapacity("Modal does not answer; ask again", retry_after_s=1) from away


@contextmanager
def _queueing() -> Iterator[None]:
    try:
        yield
    except failures.ResourceExhaustedError as full:
        raise QueueFull("Modal takes no more jobs now; try again later", retry_after_s=RETRY_AFTER_S) from full


class EngineCalls:
    """Implements jobs.Calls over a class `Engine(pipeline, model_id)` with a method `run`, and a function `webhook`.

    Each model has containers of its own, on a card that its entry of models.json names or asks for by its size.
    """

    def __init__(self, engine: Any, webhook: Any, entries: Iterable[Entry], settings: Settings) -> None:
        self._engine = engine
        self._webhook = webhook
        self._entries = list(entries)
        self._settings = settings

    async def spawn(self, plan: Plan, job: Mapping[str, Any]) -> str:
        """See Calls."""
        with _queueing():
            call = await self._of(plan).run.spawn.aio(dict(job))
        return str(call.object_id)

    async def follow(self, endpoint: str, job_id: str, created_ms: int, job_input: Any) -> None:
        """See Calls."""
        with _queueing():
            await self._webhook.spawn.aio(endpoint, job_id, created_ms, job_input)

    def _of(self, plan: Plan) -> Any:
        entries = [found.entry for found in (plan, *plan.nested) if found.entry]
        return self._containers(plan.entry, entries)(pipeline=plan.pipeline, model_id=plan.model_id or "")

    def _containers(self, entry: Entry | None, entries: list[Entry]) -> Any:
        """The class on the card for all `entries`, with the limits of the one that the job is for."""
        run_s = (entry and entry.timeout_s) or self._settings.job_timeout_s
        chosen = self._engine.with_options(**options(entries, run_s))
        places = self._places(entry)
        return chosen.with_concurrency(max_inputs=places) if places > 1 else chosen

    def _places(self, entry: Entry | None) -> int:
        """How many jobs a container runs at once: those that its model decodes together, where that is said."""
        if entry is None:
            return 1
        said = self._settings.ggml_parallel if entry.pipeline == TEXT_GENERATION else None
        slots = said or entry.options.get("slots")
        return slots if isinstance(slots, int) else 1

    @staticmethod
    async def ended(call: str, timeout_s: float) -> Ended | None:
        """See Calls."""
        try:
            with _asking():
                ended: Ended = await modal.FunctionCall.from_id(call).get.aio(timeout=timeout_s)
        except TimeoutError:  # the builtin one: it has not ended
            return None
        except InsufficientCapacity:
            raise
        except failures.FunctionTimeoutError:
            return {"status": "TIMED_OUT", "error": "deadline_exceeded: Modal ended the job at its container's limit"}
        except (failures.OutputExpiredError, failures.NotFoundError) as gone:
            raise NotFound("Modal has no result of this job any more; it keeps them for 7 days") from gone
        except Exception as lost:  # what kept a container from its start may be anything
            if _is_of_a_download(lost):
                raise InsufficientCapacity("the result cannot be fetched now; ask again", retry_after_s=1) from lost
            return {"status": "FAILED", "error": f"internal: Modal ended the job's container ({type(lost).__name__})"}
        return ended

    async def cancel(self, call: str) -> None:
        """See Calls."""
        await modal.FunctionCall.from_id(call).cancel.aio()

    async def counts(self) -> tuple[int, int, int]:
        """See Calls: over the containers of each model."""
        counted = await asyncio.gather(*map(self._stats, self._entries))
        waiting = sum(stats.backlog for stats in counted)
        running = sum(stats.num_running_inputs for stats in counted)
        return waiting, running, sum(stats.num_total_runners for stats in counted)

    async def _stats(self, entry: Entry) -> Any:
        chosen = self._containers(entry, [entry])
        return await chosen(pipeline=entry.pipeline, model_id=entry.full_id).run.get_current_stats.aio()


def _is_of_a_download(exc: Exception) -> bool:
    """Whether Modal's client could not fetch a large result: it lies in a bucket, and is asked for by HTTP."""
    return type(exc).__module__.partition(".")[0] == "aiohttp" or str(exc).startswith("Get from url failed")


def options(entries: Iterable[Entry], run_s: float) -> dict[str, Any]:
    """What the containers for these models need for runs of so many seconds, as `Cls.with_options` takes it."""
    listed = list(entries)
    chosen: dict[str, Any] = {"gpu": card(listed), "timeout": min(LONGEST_S, math.ceil(run_s) + AROUND_RUN_S)}
    if listed:
        shortest, longest = IDLE_S
        chosen["scaledown_window"] = min(longest, max(shortest, math.ceil(max(entry.idle_s for entry in listed))))
    return chosen


def card(entries: Iterable[Entry]) -> str:
    """The card that runs these models, one after the other: the one that the largest names, else by its size."""
    largest = max(entries, key=_needed, default=None)
    if largest and largest.gpu_type:
        return largest.gpu_type
    return next(name for most, name in CARDS if largest is None or _needed(largest) <= most)


def _needed(entry: Entry) -> float:
    """What a model needs on the card; one whose card is named without its size may need all of that."""
    if entry.gpu_memory_gb is None:
        return math.inf if entry.gpu_type else 0
    return entry.gpu_memory_gb
