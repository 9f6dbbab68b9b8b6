"""A context that writes down what a run tells it, and stops the run at a step."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from shared.errors import Cancelled
from shared.media.video_file import VideoFile
from shared.schemas import Made, MadeVideo


@dataclass
class Film:
    """A video that a run makes; `done` once its block has ended well."""

    width: int
    height: int
    fps: Fraction
    audio: VideoFile | None
    seed: int | None
    frames: list[NDArray[np.uint8]] = field(default_factory=list)
    done: bool = False

    def write(self, pixels: NDArray[np.uint8]) -> None:
        assert pixels.shape == (self.height, self.width, 3)
        assert pixels.dtype == np.uint8
        self.frames.append(pixels.copy())


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
        self.films: list[Film] = []
        self.expected: list[int] = []
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

    @contextmanager
    def video(
        self,
        width: int,
        height: int,
        fps: Fraction,
        *,
        audio: VideoFile | None = None,
        seed: int | None = None,
        nsfw: bool = False,
    ) -> Iterator[Film]:
        self.films.append(Film(width, height, fps, audio, seed))
        yield self.films[-1]
        self.films[-1].done = True

    def keep(self, step: int, made: list[Made | MadeVideo]) -> None:
        raise NotImplementedError("no test of a model runs another pipeline")

    def expect(self, foretell: Callable[[], int]) -> None:
        self.expected.append(foretell())

    def emit(self, made: Made | MadeVideo) -> None:
        raise NotImplementedError("no test of a model runs another pipeline")

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

    def run(
        self, pipeline: str, params: dict[str, Any], *, span: tuple[float, float] | None = None
    ) -> list[Made | MadeVideo]:
        raise NotImplementedError("no test of a model runs another pipeline")
