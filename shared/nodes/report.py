"""What a node says of itself: what is warm there, how much it takes at once, how busy it is."""

from dataclasses import dataclass
from typing import Any, Self

from pydantic import BaseModel, Field

from shared.capabilities import Capabilities

Wanted = tuple[str, str]  # a pipeline, and the id of a model
NO_MODEL = ""  # of a pipeline that needs none, which is always warm


@dataclass(frozen=True)
class Report:
    """A node as it last described itself; what a node that does not is taken for.

    `warm` is None where the node does not tell its models apart: then `is_up` says whether anything is ready there.
    `places` is how many jobs it is given at once; None for as many as there are. `busy` counts jobs that run or wait
    there, ours and others'.
    """

    warm: frozenset[Wanted] | None = frozenset()
    is_up: bool = True
    capacity: int = 1
    places: int | None = 2
    busy: int = 0

    def is_warm(self, wanted: Wanted) -> bool:
        """Whether a job for this model would wait for no load."""
        return self.is_up if self.warm is None else bool(self.warm & {wanted, (wanted[0], NO_MODEL)})

    @classmethod
    def of_container(cls, answer: Any) -> Self:
        """By its `/capabilities`.

        One job beyond those that run is enough to keep a device busy across the way there and back; what waits here
        instead can still go to whichever node is free first, and is not lost with a node.

        Raises:
            ValueError: it is no such document.
        """
        document = Capabilities.model_validate(answer)
        load = document.load
        warm = {(c.pipeline, m.model_id) for c in document.capabilities for m in c.models if m.warm}
        warm |= {(c.pipeline, NO_MODEL) for c in document.capabilities if not c.models}
        places = load.capacity + min(load.capacity, load.capacity if load.queue_max is None else load.queue_max)
        return cls(frozenset(warm), capacity=load.capacity, places=places, busy=load.running + load.waiting)

    @classmethod
    def of_endpoint(cls, answer: Any) -> Self:
        """By its `/health`; its queue may be as long as it likes, for that is what it is scaled by.

        Raises:
            ValueError: it is no such document.
        """
        health = _Health.model_validate(answer)
        workers = max(health.workers.ready, health.workers.idle + health.workers.running)
        busy = health.jobs.in_progress + health.jobs.in_queue
        return cls(None, is_up=workers > 0, capacity=max(1, workers), places=None, busy=busy)


class _Workers(BaseModel):
    idle: int = 0
    ready: int = 0
    running: int = 0


class _Jobs(BaseModel):
    in_progress: int = Field(0, ge=0, alias="inProgress")
    in_queue: int = Field(0, ge=0, alias="inQueue")


class _Health(BaseModel):
    workers: _Workers
    jobs: _Jobs = _Jobs()
