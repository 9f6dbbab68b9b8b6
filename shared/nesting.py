"""Pipelines that others run: on the device that their job holds already, or on a node."""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from shared import logs
from shared.context import JobContext, Span
from shared.errors import ModelUnavailable
from shared.lane import Lane
from shared.models.pool import Load, Pool
from shared.nested import NestedContext
from shared.nodes import accounts
from shared.nodes.answer import as_made
from shared.nodes.forwarding import Forwarder
from shared.nodes.request import record
from shared.nodes.telling import StepListener
from shared.plan import Plan, Planner, run_handler
from shared.preparation import Preparation
from shared.receipts import model_record
from shared.schemas import Made, MadeVideo, ModelSource


class Nesting:
    """Runs a pipeline for another. `has_room` says whether one more model fits beside those that are warm."""

    def __init__(
        self,
        planner: Planner,
        preparation: Preparation,
        pool: Pool,
        lane: Lane,
        forwarder: Forwarder,
        has_room: Callable[[ModelSource], bool],
    ) -> None:
        self._planner = planner
        self._preparation = preparation
        self._store = preparation.store
        self._pool = pool
        self._lane = lane
        self._forwarder = forwarder
        self._has_room = has_room

    def run(
        self, outer: JobContext, pipeline: str, given: dict[str, Any], span: Span | None
    ) -> list[Made | MadeVideo]:
        """A pipeline run by another, on the device that the job holds already."""
        plan = self._planner.plan_nested(pipeline, given)
        following = _following(outer.upcoming, plan)
        self._preparation.load_media(plan, outer.job, outer)
        if plan.is_remote:
            return self._forwarded_step(outer, plan, span)
        inner = NestedContext(outer, span, lambda: self._warm_beside(following) if following else None)
        work = partial(self._step_here, outer, plan, inner)
        return work() if self._lane.holds(outer.job) else self._lane.run(outer.job, work)

    def _step_here(self, outer: JobContext, plan: Plan, inner: NestedContext) -> list[Made | MadeVideo]:
        if plan.handler.load is None or plan.entry is None:
            return self._ran_within(outer, plan, None, None, inner)
        source = self._store.find(plan.entry)
        if source is None:  # the device must not wait for a network
            raise ModelUnavailable(f"'{plan.model_id}' must be on the volume before another pipeline can run it")
        with (
            self._store.hold(plan.entry, source, check=outer.job.check) as source,
            self._pool.acquire(plan.handler.load, source) as model,
        ):
            return self._ran_within(outer, plan, source, model, inner)

    def _ran_within(
        self, outer: JobContext, plan: Plan, source: ModelSource | None, model: Any, inner: NestedContext
    ) -> list[Made | MadeVideo]:
        """What a nested run made, with its parameters; its place in the receipt is that of its start."""
        place: dict[str, Any] = {"pipeline": plan.pipeline, "model": model_record(source)}
        outer.nested.append(place)
        run_handler(plan, model, inner)
        place["params"] = {**plan.params.as_record(), **inner.differs}
        return [replace(made, params=made.params or plan.params) for made in inner.made]

    def _warm_beside(self, plan: Plan) -> None:
        """Load the next model while this one works, where memory has room for both; nobody waits for it."""
        source = self._store.find(plan.entry) if plan.entry else None
        load = plan.handler.load
        if source is None or load is None or self._pool.holds(load, source) or not self._has_room(source):
            return
        threading.Thread(target=self._load_beside, args=(load, source), name="load-beside", daemon=True).start()

    def _load_beside(self, load: Load, source: ModelSource) -> None:
        try:
            with self._pool.acquire(load, source):
                logs.stage("loaded", "beside", model=source.model_id)
        except Exception as exc:  # noqa: BLE001 the run that needs it will say so
            logs.logger.info("not loaded beside", extra={"fields": {"model": source.model_id, "error": repr(exc)}})

    def _forwarded_step(self, outer: JobContext, plan: Plan, span: Span | None) -> list[Made | MadeVideo]:
        """A pipeline run by another, on a node; a chain that has the device keeps it meanwhile."""
        place: dict[str, Any] = {"pipeline": plan.pipeline}
        outer.nested.append(place)
        step = replace(outer.job, id=f"{outer.job.id}-{len(outer.nested)}", s3_config=None)
        answer = self._forwarder.run(step, plan, StepListener(outer, span), self._preparation.fetcher.get)
        place.update(model=accounts.model(plan, answer), params=record(plan), node=answer.as_record())
        return [as_made(output, plan.params) for output in answer.outputs]


def _following(upcoming: "deque[Plan]", plan: Plan) -> Plan | None:
    """What is to run after this, by the plan of the job; what is done is dropped from it."""
    while upcoming:
        done = upcoming.popleft()
        if (done.pipeline, done.entry) == (plan.pipeline, plan.entry):
            break
    return upcoming[0] if upcoming else None
