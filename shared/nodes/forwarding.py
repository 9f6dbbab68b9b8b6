"""Jobs that nodes run in this worker's place: sent to the best one, and to the next where no result has begun."""

import logging
import secrets
from collections.abc import Sequence
from dataclasses import replace
from typing import Self

from shared import logs, openai
from shared.errors import DeadlineExceeded, JobError, NotFound, Stopped
from shared.job import Clock, Job
from shared.jobs.terms import Terms
from shared.media.exchange import Deadline
from shared.models.catalog import Entry
from shared.nodes import container, endpoint, verdicts
from shared.nodes.answer import Answer, Download
from shared.nodes.calling import Grip, Unheard
from shared.nodes.fleet import Fleet, addresses_of
from shared.nodes.node import Address, Node
from shared.nodes.report import Report
from shared.nodes.telling import Listener
from shared.nodes.verdicts import Declined
from shared.plan import Plan


class Forwarder:
    """Runs jobs on the nodes of a models.json, from any thread."""

    def __init__(self, fleet: Fleet, timeout_s: float, clock: Clock) -> None:
        """Args: `timeout_s` is the longest run of one job."""
        self.fleet = fleet
        self._timeout_s = timeout_s
        self._clock = clock

    @classmethod
    def of_entries(cls, entries: Sequence[Entry], timeout_s: float, clock: Clock) -> Self:
        """For the nodes that entries of a models.json name.

        Raises:
            InvalidInput: a variable with a token is not set.
        """
        return cls(Fleet(addresses_of(entries), _ask, clock), timeout_s, clock)

    def run(self, job: Job, plan: Plan, told: Listener, fetch: Download = lambda url: None) -> Answer:
        """What a node made of the job. Each node is tried once, the best one first.

        `fetch` gets the files at links that anybody can open; by default these are passed on.

        Raises:
            InsufficientCapacity: no node takes it, with `retry_after_s`.
            JobError, Stopped: it ended so, on the last node that was tried.
        """
        nodes = [node for node in self.fleet.nodes(plan) if _speaks(node.address, plan)]
        if not nodes:
            raise NotFound("the nodes of this model are containers, which have no route of OpenAI's API")
        has_deadline, tried = job.deadline is not None, []
        while True:
            begun_at = self._clock()
            try:
                with self.fleet.place(plan, job, [node for node in nodes if node not in tried]) as node:
                    tried.append(node)
                    answer = self._attempt(node, job, plan, told, fetch, begun_at)
                self.fleet.succeeded(node, plan)
                return answer
            except Declined as declined:
                if told.is_told or len(tried) == len(nodes):
                    raise self._with_retry(declined.ending, nodes) from declined
            if not has_deadline:
                job.deadline = None  # the next one has as long for it

    def _attempt(self, node: Node, job: Job, plan: Plan, told: Listener, fetch: Download, begun_at: float) -> Answer:
        """One node's try at the job."""
        told.begin()
        waited_s, timeout_s = self._clock() - begun_at, self._left_s(job)
        try:
            if node.address.kind == "endpoint":
                answer = endpoint.run(node.address, job, plan, told, fetch, timeout_s)
            else:
                answer = self._on_container(node, job, plan, told, timeout_s)
        except Declined as declined:
            self.fleet.failed(node, declined.pause_s)
            logs.stage("declined", job.id, level=logging.WARNING, node=node.address.name, reason=declined.reason)
            raise
        return replace(answer, waited_s=waited_s)

    def _on_container(self, node: Node, job: Job, plan: Plan, told: Listener, timeout_s: float) -> Answer:
        """The same on a container, whose connection a cancel cuts, and the node's death."""
        runs_already = job.deadline is not None  # a step of a chain, which has no more time than the chain
        deadline = Deadline(timeout_s if runs_already else timeout_s * (1 + container.JOBS_BEFORE))
        terms = Terms(secrets.token_hex(16), timeout_s)
        with Grip() as grip, self.fleet.may_cut(node, grip.cut):
            job.cancel.on_cancel(grip.cut)
            try:
                return container.run(node.address, plan, told, terms, grip, deadline)
            except (Unheard, Declined, Stopped) as exc:  # also what is cut can look as if it had come to an end
                if stop := _stop_of(job, deadline):
                    raise _confirmed(stop, node.address, str(terms.job_id)) from exc
                if isinstance(exc, Unheard):
                    raise verdicts.unheard(str(exc)) from exc
                raise
            finally:
                job.cancel.forget(grip.cut)

    def _left_s(self, job: Job) -> float:
        if job.deadline is not None:
            return max(0.0, job.deadline - job.clock())
        return min(self._timeout_s, job.timeout_s or self._timeout_s)

    def _with_retry(self, ending: JobError, nodes: list[Node]) -> JobError:
        """The ending anew, which says when to try again where that may help."""
        when = {"retry_after_s": self.fleet.retry_after_s(nodes)} if ending.retryable else {}
        return type(ending)(ending.message, **{**ending.detail, **when})


def _stop_of(job: Job, deadline: Deadline) -> Stopped | None:
    """Why this worker broke off; None where it did not."""
    try:
        job.check()
    except Stopped as stop:
        return stop
    return None if deadline.left() else DeadlineExceeded("the job ran longer than it may, on a node (JOB_TIMEOUT_S)")


def _confirmed(stop: Stopped, address: Address, job_id: str) -> Stopped:
    """The stop, once its node says that the job has left the device, or else with what is not known."""
    if container.has_stopped(address, job_id):
        return stop
    return type(stop)(f"{stop.message}; its node has not confirmed that it stopped")


def _ask(address: Address) -> Report | None:
    return endpoint.ask(address) if address.kind == "endpoint" else container.ask(address)


def _speaks(address: Address, plan: Plan) -> bool:
    """Whether a node has a route for the job: OpenAI's API is spoken by endpoints only."""
    return address.kind == "endpoint" or not isinstance(plan.params, openai.Request)
