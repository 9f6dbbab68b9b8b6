"""What a running handler reports through: progress out, stops in, outputs on their way to be encoded."""

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as StillGoing
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from json.encoder import encode_basestring
from typing import TYPE_CHECKING, Any, Protocol

from shared.backlog import Backlog
from shared.errors import OutOfMemory, ResultTooLarge
from shared.job import Job, Piece, Progress, Stage
from shared.media.image import preview_data_url
from shared.media.sizes import in_words
from shared.metrics import JobMetrics
from shared.schemas import FrameSink, Made, MadeVideo, Output, of_media

if TYPE_CHECKING:
    from PIL.Image import Image

    from shared.media.video_file import VideoFile
    from shared.media.video_writer import VideoWriter

PREVIEW_EVERY_S = 0.5
SURELY = 2  # a foretold size is refused when it is so many times the limit; else the file is stopped as it grows
LOOK_S = 0.1  # between two looks at whether a job that waits for its encoders was told to stop
Span = tuple[float, float]
Nested = Callable[["JobContext", str, dict[str, Any], Span | None], list[Made | MadeVideo]]


@dataclass(frozen=True)
class Kept:
    """The outputs of a step, and where they are; None while there was no place for them but the result."""

    outputs: list[Output]
    urls: list[str] | None


class Encoders(Protocol):
    """Where a context's outputs become files, beside the device."""

    @property
    def most_bytes(self) -> int | None:
        """The largest file that anything can carry, where that is known."""

    def image(self, made: Made) -> "Future[Output]":
        """Encode a picture."""

    def open(self, width: int, height: int, fps: Fraction, audio: "VideoFile | None") -> "VideoWriter":
        """Begin a video."""

    def video(self, writer: "VideoWriter", seed: int | None, nsfw: bool) -> "Future[Output]":
        """Finish a video of which all frames are written."""

    def again(self, made: MadeVideo, check: Callable[[], None]) -> "Future[Output]":
        """Encode a video of a nested run; `check` may end that between two frames."""

    def keep(self, made: list[Made | MadeVideo], first: int, check: Callable[[], None]) -> "Future[Kept]":
        """Encode what a step made, and deliver it; `first` outputs of the job have been delivered before."""


@dataclass
class Written:
    """The text that a run has emitted so far, and how it ended."""

    pieces: list[str] = field(default_factory=list)
    size: int = 0  # bytes of JSON of the whole text, without its quotes
    finish_reason: str | None = None
    usage: Mapping[str, int] | None = None
    answer: Mapping[str, Any] | None = None

    def __str__(self) -> str:
        return "".join(self.pieces)


class JobContext:
    """The context of one job, from its first report to its last; implements schemas.Context."""

    def __init__(
        self,
        job: Job,
        metrics: JobMetrics,
        backlog: Backlog,
        encoders: Encoders,
        nested: Nested,
        *,
        streams: bool = False,
        room: int | None = None,
    ) -> None:
        """Args: `streams` says whether pieces of text leave as they are made; `room` is for so many bytes of text."""
        self.job = job
        self.metrics = metrics
        self.steps_done = 0
        self.differs: dict[str, Any] = {}
        self.written = Written()
        self.nested: list[dict[str, Any]] = []  # what a receipt tells of the runs within this one
        self.kept: list[tuple[dict[str, Any], Future[Kept]]] = []  # step and pipeline, and what it made
        self._kept_at: list[dict[str, Any]] = []
        self._kept_count = 0
        self.upcoming: deque[Any] = deque()  # plans of what this run is to call, the next one first
        self._streams = streams
        self._room = room
        self._backlog = backlog
        self._encoders = encoders
        self._nested = nested
        self._outputs: list[Future[Output]] = []
        self._seq = itertools.count(1)
        self._begun_at: float | None = None
        self._previewed_at: float | None = None

    def report(self, stage: Stage, **where: Any) -> None:
        """Tell whoever listens which stage the job is in."""
        self.job.events(Progress(next(self._seq), stage, kept=list(self._kept_at) or None, **where))

    @property
    def is_told(self) -> bool:
        """Whether text has left, and cannot be taken back."""
        return self._streams and bool(str(self.written))

    def begin(self) -> None:
        """The run starts, or starts anew after it ran out of memory: nothing of before counts.

        Raises:
            OutOfMemory: pieces of text have left, and cannot be taken back.
        """
        if self.is_told:
            raise OutOfMemory("the device's memory ran out in the middle of the text; ask for a shorter one")
        for output in self._outputs:
            output.cancel()
        self._outputs.clear()
        self.steps_done = 0
        self.written = Written()
        self.differs.clear()
        self.nested.clear()
        for _, keeping in self.kept:
            keeping.cancel()
        self.kept.clear()
        self._kept_at.clear()
        self._kept_count = 0
        self._begun_at = self.job.clock()
        self.metrics.checked()

    def outputs(self) -> list[Output]:
        """The encoded outputs, in the order in which they were made; waits for the encoders.

        Raises:
            Cancelled, DeadlineExceeded: the job was told to stop meanwhile.
        """
        return [self._waited(output) for output in self._outputs]

    def kept_outputs(self) -> list[tuple[dict[str, Any], Kept]]:
        """What steps have made, by step and pipeline, and where it is; waits and raises as `outputs`."""
        return [(named, self._waited(keeping)) for named, keeping in self.kept]

    def _waited(self, made: "Future[Any]") -> Any:
        while True:
            try:
                return made.result(timeout=LOOK_S)
            except StillGoing:
                if made.done():  # it was the encoder that timed out
                    raise
                self.job.check()

    def check(self) -> None:
        """See schemas.Context."""
        self.metrics.checked()
        self.job.check()

    def pass_step(self) -> None:
        """One step is done: count it, and stop here when the job was told to stop."""
        self.check()
        self.steps_done += 1

    def step(self, step: int, steps: int, preview: "Callable[[], Image] | None" = None) -> None:
        """See schemas.Context."""
        self.pass_step()
        left_s = self._left_s(step, steps)
        if left_s is not None:
            self._backlog.stepped(self.job.id, left_s)
        self.report(
            "running",
            step=step,
            steps=steps,
            eta_s=None if left_s is None else round(left_s, 2),
            preview=self._picture(preview) if preview and self._preview_is_due() else None,
        )

    def _picture(self, preview: "Callable[[], Image]") -> str | None:
        """A preview as a data URL; one that cannot be had must not end the job that it is of."""
        try:
            return preview_data_url(preview())
        except Exception as exc:  # noqa: BLE001 whatever a decoder raises
            self.note(preview_failed=type(exc).__name__)
            return None

    def image(self, image: "Image", *, seed: int | None = None, nsfw: bool = False) -> None:
        """See schemas.Context."""
        self._outputs.append(self._encoders.image(Made(image, seed, nsfw)))

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
        """See schemas.Context."""
        writer = self._encoders.open(width, height, fps, audio)
        try:
            yield writer
        except BaseException:
            writer.abort()
            raise
        self._outputs.append(self._encoders.video(writer, seed, nsfw))

    def expect(self, foretell: Callable[[], int]) -> None:
        """See schemas.Context."""
        if self._encoders.most_bytes is not None:
            refuse_what_nobody_carries(foretell(), self._encoders.most_bytes)

    def emit(self, made: Made | MadeVideo) -> None:
        """See schemas.Context."""
        if isinstance(made, Made):
            self._outputs.append(self._encoders.image(made))
        else:
            self._outputs.append(self._encoders.again(made, self.job.check))

    def keep(self, step: int, made: list[Made | MadeVideo]) -> None:
        """See schemas.Context."""
        named = {"step": step, "pipeline": self.nested[-1]["pipeline"]}
        keeping = self._encoders.keep(made, self._kept_count, self.job.check)
        self._kept_count += len(made)
        self.kept.append((named, keeping))
        keeping.add_done_callback(lambda done: self._tell_kept(named, done))

    def _tell_kept(self, named: dict[str, Any], done: "Future[Kept]") -> None:
        """The next progress says where they are; an error is the job's, when it asks for its outputs."""
        is_ours = any(done is keeping for _, keeping in self.kept)  # and not of an attempt that ran out of memory
        if not is_ours or done.cancelled() or done.exception():
            return
        kept = done.result()
        if kept.urls is not None:
            self._kept_at.append({**named, **of_media(kept.outputs, kept.urls)})

    def text(self, piece: str, *, most: int | None = None) -> None:
        """See schemas.Context."""
        self.pass_step()
        piece = _whole(piece)
        self.written.pieces.append(piece)
        self.written.size += len(encode_basestring(piece).encode()) - 2  # as `json.dumps`, in a quarter of its time
        if self._room is not None and self.written.size > self._room:
            raise ResultTooLarge(f"the text is larger than the platform carries ({self._room:,} bytes); ask for less")
        left_s = None if most is None else self._left_s(self.steps_done, most)
        if left_s is not None:
            self._backlog.stepped(self.job.id, left_s)
        if self._streams and piece:
            self.job.events(Piece(piece))

    def finish(self, reason: str, usage: Mapping[str, int]) -> None:
        """See schemas.Context."""
        self.written.finish_reason, self.written.usage = reason, usage

    def answer(self, body: Mapping[str, Any]) -> None:
        """See schemas.Context."""
        self.written.answer = body

    def note(self, **facts: Any) -> None:
        """See schemas.Context."""
        self.metrics.note(**facts)

    def effective(self, **params: Any) -> None:
        """See schemas.Context."""
        self.differs.update(params)

    def run(self, pipeline: str, params: dict[str, Any], *, span: Span | None = None) -> list[Made | MadeVideo]:
        """See schemas.Context."""
        return self._nested(self, pipeline, params, span)

    def _left_s(self, step: int, steps: int) -> float | None:
        if self._begun_at is None or not 0 < step <= steps:
            return None
        return (self.job.clock() - self._begun_at) / step * (steps - step)

    def _preview_is_due(self) -> bool:
        now = self.job.clock()
        if self._previewed_at is not None and now - self._previewed_at < PREVIEW_EVERY_S:
            return False
        self._previewed_at = now
        return True


def refuse_what_nobody_carries(expected: int, most: int) -> None:
    """End a job whose outputs are foretold to take `expected` bytes, where no more than `most` can be carried.

    Raises:
        ResultTooLarge: they surely are too large.
    """
    if expected > SURELY * most:
        raise ResultTooLarge(
            f"the result would be about {in_words(expected)}, and the platform carries {in_words(most)}; "
            "send delivery.put with a presigned URL, send s3Config, or set BUCKET_ENDPOINT_URL"
        )


def _whole(piece: str) -> str:
    """The piece with U+FFFD in place of half a surrogate pair, which no UTF-8 can hold."""
    try:
        piece.encode()
    except UnicodeEncodeError:
        return piece.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return piece
