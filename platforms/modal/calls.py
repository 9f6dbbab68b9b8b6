"""The calls of the app's GPU class, and its board, through Modal's client."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import modal
import modal.exception

from platforms.modal.backend import Ended
from shared.errors import NotFound, QueueFull
from shared.models.catalog import Entry
from shared.plan import Plan

# What a model needs on the card, in 10^9 bytes, and the cheapest card that has it with room for a run
CARDS = ((16, "L4"), (40, "L40S"), (70, "A100-80GB"), (math.inf, "H200"))
AROUND_RUN_S = 600  # Modal's limit counts a job's files, its model and its result too
RETRY_AFTER_S = 30
IDLE_S = (2, 3600)  # what Modal accepts


class ModalBoard:
    """Implements backend.Board over a `modal.Dict`."""

    def __init__(self, entries: modal.Dict) -> None:
        self._entries = entries

    async def get(self, name: str) -> Any:
        """See Board."""
        return await self._entries.get.aio(name)

    async def put(self, name: str, entry: Any, *, is_new: bool = False) -> bool:
        """See Board."""
        return await self._entries.put.aio(name, entry, skip_if_exists=is_new)

    async def drop(self, name: str) -> None:
        """See Board."""
        await self._entries.pop.aio(name, None)


class EngineCalls:
    """Implements backend.Calls over a class `Engine(pipeline, model_id)` with a method `run`.

    Each model has containers of its own, on a card that its entry of models.json names or asks for by its size.
    """

    def __init__(self, engine: Any, entries: Iterable[Entry]) -> None:
        self._engine = engine
        self._entries = list(entries)

    async def spawn(self, plan: Plan, job: Mapping[str, Any]) -> str:
        """See Calls."""
        try:
            call = await self._of(plan).run.spawn.aio(dict(job))
        except modal.exception.ResourceExhaustedError as full:
            raise QueueFull("Modal takes no more jobs now; try again later", retry_after_s=RETRY_AFTER_S) from full
        return str(call.object_id)

    def _of(self, plan: Plan) -> Any:
        entries = [found.entry for found in (plan, *plan.nested) if found.entry]
        return self._engine.with_options(**options(entries))(pipeline=plan.pipeline, model_id=plan.model_id or "")

    async def ended(self, call: str, timeout_s: float) -> Ended | None:
        """See Calls."""
        try:
            ended: Ended = await modal.FunctionCall.from_id(call).get.aio(timeout=timeout_s)
        except TimeoutError:  # the builtin one: it has not ended
            return None
        except modal.exception.FunctionTimeoutError:
            return {"status": "TIMED_OUT", "error": "deadline_exceeded: Modal ended the job at its container's limit"}
        except (modal.exception.OutputExpiredError, modal.exception.NotFoundError) as gone:
            raise NotFound("Modal has no result of this job any more; it keeps them for 7 days") from gone
        except modal.exception.Error as lost:
            return {"status": "FAILED", "error": f"internal: Modal ended the job's container ({type(lost).__name__})"}
        return ended

    async def cancel(self, call: str) -> None:
        """See Calls."""
        await modal.FunctionCall.from_id(call).cancel.aio()

    async def counts(self) -> tuple[int, int]:
        """See Calls: over the containers of each model."""
        waiting = containers = 0
        for entry in self._entries:
            engine = self._engine.with_options(**options([entry]))(pipeline=entry.pipeline, model_id=entry.full_id)
            stats = await engine.run.get_current_stats.aio()
            waiting, containers = waiting + stats.backlog, containers + stats.num_total_runners
        return waiting, containers


def options(entries: Iterable[Entry]) -> dict[str, Any]:
    """What the containers for these models need, as `Cls.with_options` takes it."""
    listed = list(entries)
    chosen: dict[str, Any] = {"gpu": card(listed)}
    if limits := [entry.timeout_s for entry in listed if entry.timeout_s]:
        chosen["timeout"] = math.ceil(max(limits)) + AROUND_RUN_S
    if listed:
        shortest, longest = IDLE_S
        chosen["scaledown_window"] = min(longest, max(shortest, math.ceil(max(entry.idle_s for entry in listed))))
    return chosen


def card(entries: Iterable[Entry]) -> str:
    """The card that runs these models, one after the other: the one that is named, else by the largest."""
    listed = list(entries)
    named = [entry.gpu_type for entry in listed if entry.gpu_type]
    if named:
        return named[0]
    needed = max((entry.gpu_memory_gb or 0 for entry in listed), default=0)
    return next(name for most, name in CARDS if needed <= most)
