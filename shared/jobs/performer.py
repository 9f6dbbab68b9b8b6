"""Who runs the jobs of synchronous requests: what the REST routes ask of a platform."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

from shared.job import Piece
from shared.jobs.terms import NO_TERMS, Terms

OnPiece = Callable[[Piece], None]


class Unfinished(Exception):
    """A platform holds a request no longer: its job goes on, and can be asked for."""

    def __init__(self, endpoint: str, job_id: str) -> None:
        super().__init__(f"job {job_id} goes on")
        self.endpoint = endpoint
        self.job_id = job_id


class Performance(Protocol):
    """A job under way."""

    @property
    def job_id(self) -> str:
        """The id that its receipt names."""

    @property
    def ended(self) -> "asyncio.Future[dict[str, Any]]":
        """Its result or its Ending, once its place is free again; or Unfinished."""

    def stop(self, reason: str) -> None:
        """Stop it unless it has ended; `ended` follows once it has left the device."""


class Performer(Protocol):
    """Takes jobs while it has places for them; called on the event loop."""

    def admit(self) -> AbstractContextManager[None]:
        """The block of a request; refuses it before its body is read.

        Raises:
            QueueFull, InsufficientCapacity, ModelUnavailable: it could not be run now.
        """

    def start(self, job_input: dict[str, Any], on_piece: OnPiece, terms: Terms = NO_TERMS) -> Performance:
        """Take a job; `on_piece` hears its text from the device's thread, and must return at once.

        The result holds files (schemas.Output) or URLs where it shows media.

        Raises:
            QueueFull, InsufficientCapacity, ModelUnavailable: as `admit`.
            InvalidInput: the client gave the id of another job that runs.
        """

    def find(self, job_id: str) -> Performance | None:
        """A job under way; None where there is none of this id."""

    def waiting(self) -> int:
        """How many jobs wait for the device."""
