"""The nodes of a models.json, and the places on them: who comes first gets the best one that is free."""

import math
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from shared.errors import InsufficientCapacity, InvalidInput
from shared.job import Clock, Job
from shared.models.catalog import Entry
from shared.nodes.asking import Ask, Asking
from shared.nodes.node import Address, Node, best
from shared.nodes.report import Wanted
from shared.plan import Plan
from shared.settings import variable

FIRST_REPORT_S = 0.5  # the longest that a job waits for nodes which never said anything
LOOK_S = 1.0  # between two looks at whether a node need not be left alone any more
PATIENCE_S = 10.0  # who waits already goes on, where a node may be asked again so soon


@dataclass(eq=False)
class _Waiter:
    """A job that waits for a place on one of its nodes, for `patience_s` where all of them are left alone."""

    wanted: Wanted
    nodes: list[Node]
    patience_s: float
    node: Node | None = None
    woken: threading.Event = field(default_factory=threading.Event)


class Fleet:
    """Hands out places on nodes, from any thread."""

    def __init__(self, addresses: dict[Wanted, list[Address]], ask: Ask, clock: Clock) -> None:
        known = {address: Node(address) for listed in addresses.values() for address in listed}
        self._nodes = {wanted: [known[address] for address in listed] for wanted, listed in addresses.items()}
        self._clock = clock
        self._changed = threading.Condition()
        self._waiting: deque[_Waiter] = deque()
        self._asking = Asking(known.values(), ask, self._changed, self._hand_out, clock)

    def nodes(self, plan: Plan) -> list[Node]:
        """Those that run a job's model, in the order of models.json."""
        return self._nodes[wanted_of(plan)]

    def is_warm(self, wanted: Wanted) -> bool:
        """Whether a node has the model ready, as far as is known."""
        with self._changed:
            return any(node.is_warm(wanted) for node in self._nodes.get(wanted, ()))

    def capacity(self) -> int:
        """How many jobs all nodes together run at once, as far as is known."""
        with self._changed:
            return sum(node.report.capacity for node in self._asking.nodes)

    def counts(self) -> tuple[int, int]:
        """Jobs of ours that are on nodes, and that wait for a place there."""
        with self._changed:
            return sum(node.ours for node in self._asking.nodes), len(self._waiting)

    @contextmanager
    def place(self, plan: Plan, job: Job, nodes: list[Node]) -> Iterator[Node]:
        """A place on the best of these nodes; waits while our own jobs fill them.

        Where all are left alone, a job of a queue waits on: else those behind it would be lost too, as fast as they
        are taken.

        Raises:
            InsufficientCapacity: all of them are left alone, with `retry_after_s`.
            Cancelled, DeadlineExceeded: the job was told to stop meanwhile.
        """
        self._asking.refresh(nodes)
        node = self._taken(_Waiter(wanted_of(plan), nodes, math.inf if job.can_recur else 0.0), job)
        try:
            yield node
        finally:
            self._free(node)

    def _taken(self, waiter: _Waiter, job: Job) -> Node:
        job.cancel.on_cancel(waiter.woken.set)
        try:
            with self._changed:
                self._await_first_reports(waiter.nodes)
                self._waiting.append(waiter)
                self._hand_out()
            while waiter.node is None:
                job.check()
                self._give_up_on_none(waiter)
                waiter.patience_s = max(waiter.patience_s, PATIENCE_S)
                waiter.woken.wait(LOOK_S)
                waiter.woken.clear()
                with self._changed:
                    self._hand_out()
            return waiter.node
        except BaseException:
            self._leave(waiter)
            raise
        finally:
            job.cancel.forget(waiter.woken.set)

    def _await_first_reports(self, nodes: list[Node]) -> None:
        def are_known() -> bool:
            return not any(node.is_being_asked and not node.is_known for node in nodes)

        self._changed.wait_for(are_known, FIRST_REPORT_S)

    def _hand_out(self) -> None:
        """Give places to those who wait, in their order; under the lock."""
        now = self._clock()
        for waiter in list(self._waiting):
            if node := best(waiter.nodes, waiter.wanted, now):
                node.busy_since = now if node.ours == 0 else node.busy_since
                node.ours += 1
                waiter.node = node
                self._waiting.remove(waiter)
                waiter.woken.set()
                self._asking.look_after()

    def _give_up_on_none(self, waiter: _Waiter) -> None:
        with self._changed:
            alone_s = min(node.not_before for node in waiter.nodes) - self._clock()
            if waiter.node is None and alone_s > waiter.patience_s:
                raise InsufficientCapacity(
                    "no node can take the job now; submit it again later", retry_after_s=_whole_seconds(alone_s)
                )

    def _leave(self, waiter: _Waiter) -> None:
        with self._changed:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
        if waiter.node:
            self._free(waiter.node)

    def _free(self, node: Node) -> None:
        with self._changed:
            node.ours -= 1
            self._hand_out()
            self._changed.notify_all()

    def retry_after_s(self, nodes: Sequence[Node]) -> int:
        """Whole seconds until the first of these nodes may be asked again; at least 1."""
        with self._changed:
            return _whole_seconds(min(node.not_before for node in nodes) - self._clock())

    def succeeded(self, node: Node, plan: Plan) -> None:
        """The node answered a job."""
        with self._changed:
            node.succeeded(self._clock(), wanted_of(plan))

    def failed(self, node: Node, pause_s: float | None) -> None:
        """The node did not run a job; it is left alone for so long, for longer each time where that is None."""
        with self._changed:
            if pause_s is None:
                node.failed(self._clock())
            else:
                node.paused(self._clock(), pause_s)
            for waiter in self._waiting:  # there may be no node left for it
                waiter.woken.set()

    @contextmanager
    def may_cut(self, node: Node, cut: Callable[[], None]) -> Iterator[None]:
        """Within this, the node's death calls `cut`."""
        with self._changed:
            node.cuts.add(cut)
        try:
            yield
        finally:
            with self._changed:
                node.cuts.discard(cut)


def wanted_of(plan: Plan) -> Wanted:
    """A job's model, as nodes and their reports name it."""
    return plan.pipeline, str(plan.model_id)


def addresses_of(entries: Sequence[Entry]) -> dict[Wanted, list[Address]]:
    """The nodes of each model; entries of one pipeline and model are one, so that nodes may have tokens of their own.

    Raises:
        InvalidInput: a variable with a token is not set.
    """
    names: dict[str, str] = {}
    found: dict[Wanted, list[Address]] = {}
    for entry in entries:
        token = variable(entry.token_env) if entry.token_env else None
        if entry.token_env and token is None:
            raise InvalidInput(f"models.json: token_env names {entry.token_env}, and that variable is not set")
        listed = found.setdefault((entry.pipeline, entry.full_id), [])
        for url in entry.url:
            address = Address(names.setdefault(url, f"node-{len(names) + 1}"), url, token)
            if address not in listed:
                listed.append(address)
    return found


def _whole_seconds(seconds: float) -> int:
    return max(1, math.ceil(seconds))
