"""Models of this container's runner, loaded ahead of their first job."""

import asyncio
from typing import Any

from shared.errors import InsufficientCapacity, JobError, Stopped
from shared.runner import Runner

LEAST_WAIT_S = 0.25  # for what is warm to be found so


class Warming:
    """Loads each model once, for all who ask at the same time; lives on one event loop."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._loading: dict[tuple[str, str | None], asyncio.Future[Any]] = {}
        self._stopped = asyncio.Event()
        self._refusal: JobError | None = None

    async def warm(self, pipeline: str, model_id: str | None, wait_s: float) -> bool:
        """See warm.Warm.

        Raises:
            NotFound, InvalidInput: there is no such model.
            ModelUnavailable, OutOfMemory, InsufficientCapacity, Internal: it cannot be loaded.
        """
        self._check()
        key = (pipeline, model_id)
        if key not in self._loading:
            self._loading[key] = loading = asyncio.wrap_future(self._runner.warm_model(pipeline, model_id))
            loading.add_done_callback(lambda done: self._loaded(key, done))
        loading = self._loading[key]
        await self._wait(loading, max(wait_s, LEAST_WAIT_S))
        try:
            return loading.done() and loading.result() is None
        except Stopped as stopped:
            raise InsufficientCapacity(f"the model was not warm in time: {stopped.message}") from None

    def stop(self, reason: JobError) -> None:
        """Load nothing more; who waits for a model is answered with this."""
        self._refusal = reason
        self._stopped.set()

    def is_loading(self) -> bool:
        """Whether a model is being loaded, which nothing can stop."""
        return bool(self._loading)

    def _check(self) -> None:
        if self._refusal:
            raise type(self._refusal)(self._refusal.message, **self._refusal.detail)

    async def _wait(self, loading: "asyncio.Future[Any]", wait_s: float) -> None:
        stopped = asyncio.ensure_future(self._stopped.wait())
        try:
            await asyncio.wait({loading, stopped}, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
        if not loading.done():
            self._check()

    def _loaded(self, key: tuple[str, str | None], done: "asyncio.Future[Any]") -> None:
        del self._loading[key]
        done.exception()  # also where nobody waits for it any more
