"""Models of this container's runner, loaded ahead of their first job."""

import asyncio
from typing import Any

from shared.errors import InsufficientCapacity, Stopped
from shared.runner import Runner


class Warming:
    """Loads each model once, for all who ask at the same time; lives on one event loop."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._loading: dict[tuple[str, str | None], asyncio.Future[Any]] = {}

    async def warm(self, pipeline: str, model_id: str | None, wait_s: float) -> bool:
        """See warm.Warm.

        Raises:
            NotFound, InvalidInput: there is no such model.
            ModelUnavailable, OutOfMemory, InsufficientCapacity, Internal: it cannot be loaded.
        """
        key = (pipeline, model_id)
        if key not in self._loading:
            self._loading[key] = loading = asyncio.wrap_future(self._runner.warm_model(pipeline, model_id))
            loading.add_done_callback(lambda done: self._loaded(key, done))
        loading = self._loading[key]
        done, _ = await asyncio.wait([loading], timeout=wait_s)
        try:
            return bool(done) and loading.result() is None
        except Stopped as stopped:
            raise InsufficientCapacity(f"the model was not warm in time: {stopped.message}") from None

    def _loaded(self, key: tuple[str, str | None], done: "asyncio.Future[Any]") -> None:
        del self._loading[key]
        done.exception()  # also where nobody waits for it any more
