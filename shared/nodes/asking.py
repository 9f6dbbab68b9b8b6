"""Asks nodes about themselves, beside the jobs, and only while there are any."""

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from shared import logs
from shared.job import Clock
from shared.media.exchange import Deadline
from shared.nodes.calling import Grip, call, read_body, read_json
from shared.nodes.node import Address, Node
from shared.nodes.report import Report

FRESH_S = 3.0  # how old a report may be before its node is asked again
LOST_S = 20.0  # a node that says nothing for so long while it has jobs of ours is taken for dead
LOOK_S = 0.5
AT_ONCE = 8
Ask = Callable[[Address], Report | None]
"""What a node says of itself; None where it answers, but not that. Raises where it says nothing, and returns soon."""


class Asking:
    """Keeps the reports of nodes fresh, and cuts our calls to those that fell silent.

    `changed` guards the nodes; `on_report` is called under it.
    """

    def __init__(
        self,
        nodes: Iterable[Node],
        ask: Ask,
        changed: threading.Condition,
        on_report: Callable[[], None],
        clock: Clock,
    ) -> None:
        self.nodes = list(nodes)
        self._ask = ask
        self._changed = changed
        self._on_report = on_report
        self._clock = clock
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="ask-node")
        self._looking: threading.Thread | None = None

    def refresh(self, nodes: Iterable[Node]) -> None:
        """Let nodes be asked that have said nothing for a while; does not wait."""
        with self._changed:
            now = self._clock()
            due = [node for node in nodes if node.is_due(now, FRESH_S)]
            for node in due:
                node.is_being_asked, node.asked_at = True, now
        for node in due:
            self._threads.submit(self._hear, node)

    def look_after(self) -> None:
        """Watch the nodes that have jobs of ours, as long as there are any; called under the lock."""
        if self._looking is None:
            self._looking = threading.Thread(target=self._look, name="nodes", daemon=True)
            self._looking.start()

    def _hear(self, node: Node) -> None:
        """Ask one node. That it does not answer is for its jobs to find out, and for `_look`."""
        report, is_there = None, True
        try:
            report = self._ask(node.address)
        except Exception as exc:  # noqa: BLE001 whatever it is, the node is one that says nothing
            is_there = False
            fields = {"node": node.address.name, "error": f"{type(exc).__name__}: {exc}"}
            logs.logger.info("a node says nothing", extra={"fields": fields})
        with self._changed:
            node.asked()
            if is_there:
                node.heard(self._clock(), report)
            self._on_report()
            self._changed.notify_all()

    def _look(self) -> None:
        while True:
            with self._changed:
                self._changed.wait(LOOK_S)
                busy = [node for node in self.nodes if node.ours]
                if not busy:
                    self._looking = None
                    return
                now = self._clock()
                cuts = [cut for node in busy if node.is_lost(now, LOST_S) for cut in node.cuts]
            self.refresh(busy)
            for cut in cuts:
                cut()


def put(address: Address, path: str, within_s: float, read: Callable[[Any], Report]) -> Report | None:
    """What a node answers to one question; None where that cannot be read.

    Raises:
        Unheard: it says nothing.
    """
    with Grip() as grip, call("GET", address, path, grip=grip, deadline=Deadline(within_s)) as response:
        if response.status != 200:
            return None
        try:
            return read(read_json(read_body(response)))
        except ValueError:
            return None
