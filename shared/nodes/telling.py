"""Whom a node's progress and text are told to: the job itself, or the pipeline whose step it runs."""

from collections.abc import Mapping
from typing import Any, Protocol

from shared.job import Stage
from shared.nested import NestedContext


class Listener(Protocol):
    """What a forwarded job reports through; a job's context is one."""

    @property
    def is_told(self) -> bool:
        """Whether text has left, so that no other node can begin anew."""

    def begin(self) -> None:
        """It starts, or starts anew on another node."""

    def report(self, stage: Stage, **where: Any) -> None:
        """Where it is: `step`, `steps`, `eta_s`, `preview`."""

    def text(self, piece: str) -> None:
        """The next piece of a text; raises where the job must stop."""

    def finish(self, reason: str, usage: Mapping[str, int]) -> None:
        """How the text ended."""

    def answer(self, body: Mapping[str, Any]) -> None:
        """The whole result in the shape of another API."""


class StepListener(NestedContext):
    """A step of a chain: its progress is a share of the chain's, and its text is nobody's."""

    @property
    def is_told(self) -> bool:
        """See Listener."""
        return False

    def begin(self) -> None:
        """Nothing was told that would have to be taken back."""

    def report(self, stage: Stage, **where: Any) -> None:
        """Only steps count for a share."""
        if stage == "running" and where.get("step") and where.get("steps"):
            self.step(where["step"], where["steps"])
