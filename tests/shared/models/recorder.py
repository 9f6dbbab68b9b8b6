"""A context that writes down what a run tells it, and stops the run at a step."""

from collections.abc import Callable, Mapping
from typing import Any

from PIL.Image import Image

from shared.errors import Cancelled
from shared.schemas import Made


class Recorder:
    """Implements schemas.Context; `previews` calls for a picture at every step, a text stops at piece `stop_at`."""

    def __init__(self, *, stop_at: int | None = None, previews: bool = False) -> None:
        self.stop_at = stop_at
        self.pieces: list[str] = []
        self.finish_reason: str | None = None
        self.usage: dict[str, int] = {}
        self.body: Mapping[str, Any] | None = None
        self.previews = previews
        self.steps: list[tuple[int, int]] = []
        self.pictures: list[Image] = []
        self.made: list[Made] = []
        self.facts: dict[str, Any] = {}
        self.differs: dict[str, Any] = {}

    def step(self, step: int, steps: int, preview: Callable[[], Image] | None = None) -> None:
        self.steps.append((step, steps))
        if preview and self.previews:
            self.pictures.append(preview())
        if step == self.stop_at:
            raise Cancelled("asked")

    def image(self, image: Image, *, seed: int | None = None, nsfw: bool = False) -> None:
        self.made.append(Made(image, seed, nsfw))

    def check(self) -> None:
        pass

    def text(self, piece: str, *, most: int | None = None) -> None:
        self.pieces.append(piece)
        if len(self.pieces) == self.stop_at:
            raise Cancelled("asked")

    def finish(self, reason: str, usage: Mapping[str, int]) -> None:
        self.finish_reason, self.usage = reason, dict(usage)

    def answer(self, body: Mapping[str, Any]) -> None:
        self.body = body

    def note(self, **facts: Any) -> None:
        self.facts.update(facts)

    def effective(self, **params: Any) -> None:
        self.differs.update(params)

    def run(self, pipeline: str, params: dict[str, Any]) -> list[Made]:
        raise NotImplementedError("no test of a model runs another pipeline")
