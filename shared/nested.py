"""What a pipeline reports through that another one runs, on the device which that holds."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from shared.context import JobContext, Span
from shared.errors import InvalidInput, ResultTooLarge
from shared.media.sizes import in_words
from shared.schemas import FrameSink, Made, MadeVideo

if TYPE_CHECKING:
    from PIL.Image import Image

    from shared.media.video_file import VideoFile

PROGRESS = 1000  # steps of a job whose nested runs tell their share of it
MOST_BYTES = 4 * 10**9  # of a video between two pipelines


class NestedContext:
    """A pipeline run by another one on the same device: it stops with it, and hands its outputs back.

    `span` is the share of the job's progress that it fills, if any.
    """

    def __init__(
        self, outer: JobContext, span: Span | None = None, on_first_step: Callable[[], None] = lambda: None
    ) -> None:
        self._outer = outer
        self._span = span
        self._on_first_step: Callable[[], None] | None = on_first_step
        self.made: list[Made | MadeVideo] = []
        self.differs: dict[str, Any] = {}

    def run(self, pipeline: str, params: dict[str, Any], *, span: Span | None = None) -> list[Made | MadeVideo]:
        """Run one more, within this one's share."""
        return self._outer.run(pipeline, params, span=self._share(*span) if span else None)

    def step(self, step: int, steps: int, preview: "Callable[[], Image] | None" = None) -> None:
        """Stop where the outer job must, and tell how far that is."""
        if self._on_first_step:
            self._on_first_step()
            self._on_first_step = None
        share = self._share(0.0, min(1.0, step / max(steps, 1)))
        if share is None:
            self._outer.pass_step()
        else:
            self._outer.step(round(PROGRESS * share[1]), PROGRESS, preview)

    def _share(self, begin: float, end: float) -> Span | None:
        if self._span is None:
            return None
        first, last = self._span
        return first + begin * (last - first), first + end * (last - first)

    def image(self, image: "Image", *, seed: int | None = None, nsfw: bool = False) -> None:
        """Keep the image for the pipeline that asked for it."""
        self.made.append(Made(image, seed, nsfw))

    @contextmanager
    def video(
        self,
        width: int,
        height: int,
        fps: Fraction,
        *,
        audio: "VideoFile | None" = None,
        seed: int | None = None,
        nsfw: bool = False,
    ) -> Iterator[FrameSink]:
        """Keep the video, without loss, for the pipeline that asked for it.

        Raises:
            ResultTooLarge: it would take more memory than a video may between two pipelines.
        """
        from shared.media.video_file import UNLIMITED, VideoFile
        from shared.media.video_writer import LOSSLESS, VideoWriter

        try:
            with VideoWriter(width, height, fps, LOSSLESS, audio=audio, most_bytes=MOST_BYTES) as writer:
                yield writer
            data = writer.finish().data
        except ResultTooLarge as exc:
            raise ResultTooLarge(
                f"the video for the next pipeline takes more than {in_words(MOST_BYTES)} of memory, without loss; "
                "ask for fewer frames or a smaller size"
            ) from exc
        self.made.append(MadeVideo(VideoFile(data, UNLIMITED), seed, nsfw))

    def expect(self, foretell: Callable[[], int]) -> None:
        """What a run within another makes leaves by the other."""

    def emit(self, made: Made | MadeVideo) -> None:
        """Keep what a run within this one made."""
        self.made.append(made)

    def keep(self, step: int, made: list[Made | MadeVideo]) -> None:
        """What a run within another keeps, nobody has asked for."""

    def check(self) -> None:
        """Stop where the outer job must."""
        self._outer.check()

    def text(self, piece: str, *, most: int | None = None) -> None:
        """A pipeline that writes text cannot be run by another one."""
        raise InvalidInput("a pipeline that answers in text cannot be run by another pipeline")

    def finish(self, reason: str, usage: Mapping[str, int]) -> None:
        """Nothing was written."""

    def answer(self, body: Mapping[str, Any]) -> None:
        """The outer pipeline's answer is the job's."""

    def note(self, **facts: Any) -> None:
        """Facts of an inner run go into the same metrics."""
        self._outer.note(**facts)

    def effective(self, **params: Any) -> None:
        """Goes into this run's place in the receipt."""
        self.differs.update(params)
