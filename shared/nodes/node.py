"""One node: where it is, what it said of itself, what we have there, and how often it failed."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from shared.nodes.report import Report, Wanted

BACK_OFF_S = (1.0, 60.0)  # after the first failure, and at most
ENDPOINT = re.compile(r"(https?://.+/v2)/([^/]+)")


@dataclass(frozen=True)
class Address:
    """Where a node is. The name stands for it wherever clients can read it: hosts and tokens do not."""

    name: str
    url: str = field(repr=False)
    token: str | None = field(default=None, repr=False)

    @property
    def kind(self) -> Literal["container", "endpoint"]:
        """What it speaks, by the shape of its URL."""
        return "endpoint" if ENDPOINT.fullmatch(self.url) else "container"

    @property
    def endpoint(self) -> tuple[str, str]:
        """Of an endpoint: where endpoints are, and its id."""
        root, _, name = self.url.rpartition("/")
        return root, name


@dataclass(eq=False)
class Node:
    """An address with its state, which its fleet guards."""

    address: Address
    report: Report = field(default_factory=Report)
    asked_at: float | None = None
    heard_at: float | None = None
    is_being_asked: bool = False
    is_known: bool = False  # it was asked once, whatever came of it
    is_silent: bool = False  # the last question was not answered
    ours: int = 0
    busy_since: float = 0.0  # when the first of them went there
    others: int = 0  # what was busy there, less ours, when it was asked
    failures: int = 0
    not_before: float = 0.0
    cuts: set[Callable[[], None]] = field(default_factory=set)  # end our calls to it
    served: set[Wanted] = field(default_factory=set)  # since its report

    def is_available(self, now: float) -> bool:
        """Whether it is not being left alone."""
        return now >= self.not_before

    def is_due(self, now: float, fresh_s: float) -> bool:
        """Whether it should be asked about itself again: also one that is left alone, while it has jobs of ours."""
        is_fresh = self.asked_at is not None and now - self.asked_at < fresh_s
        return (self.ours > 0 or self.is_available(now)) and not self.is_being_asked and not is_fresh

    def has_place(self) -> bool:
        """Whether one more of our jobs may go there."""
        return self.report.places is None or self.ours < self.report.places

    def is_warm(self, wanted: Wanted) -> bool:
        """Whether the model is ready there, as far as is known."""
        return wanted in self.served or self.report.is_warm(wanted)

    def load(self) -> float:
        """Jobs for each that it can run at once."""
        return (self.ours + self.others) / self.report.capacity

    def is_lost(self, now: float, after_s: float) -> bool:
        """Whether it has said nothing for so long while it had jobs of ours; nobody asks a node that has none."""
        return self.is_silent and now - max(self.busy_since, self.heard_at or 0.0) > after_s

    def asked(self) -> None:
        """A question about itself has been answered, or not."""
        self.is_being_asked, self.is_known, self.is_silent = False, True, True

    def heard(self, now: float, report: Report | None) -> None:
        """It answered; None: with nothing that we can read."""
        self.heard_at, self.is_silent = now, False
        if report is not None:
            self.report = report
            self.others = max(0, report.busy - self.ours)
            self.served.clear()

    def succeeded(self, now: float, wanted: Wanted) -> None:
        """It ran a job to its end."""
        self.heard_at, self.is_silent = now, False
        self.failures = 0
        self.not_before = 0.0
        self.served.add(wanted)

    def failed(self, now: float) -> None:
        """It is left alone for a time that doubles with each failure in a row."""
        shortest, longest = BACK_OFF_S
        self.not_before = now + min(longest, shortest * 2**self.failures)
        self.failures = min(self.failures + 1, 16)
        self.served.clear()

    def paused(self, now: float, seconds: float) -> None:
        """It asked to be left alone for a while, which is no failure."""
        self.not_before = max(self.not_before, now + min(seconds, BACK_OFF_S[1]))


def best(nodes: list[Node], wanted: Wanted, now: float) -> Node | None:
    """The node for the next job: a warm one before a cold one, then the least busy, then the first in the list.

    Those that did not answer when they were asked come last; they may only have been too busy to.

    None where all that may be asked have as many of our jobs as they take.
    """
    free = [node for node in nodes if node.is_available(now) and node.has_place()]
    return min(free, key=lambda node: (node.is_silent, not node.is_warm(wanted), node.load()), default=None)
