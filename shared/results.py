"""What a run has made, as files, and the result that shows them."""

import hashlib
import importlib.metadata
import json
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from typing import TYPE_CHECKING, Any

from shared.context import Kept, Written
from shared.errors import ResultTooLarge
from shared.media.image import encode_image, pixels_sha256
from shared.metrics import JobMetrics
from shared.schemas import MEDIA_TYPES, ImageFormat, Made, MadeVideo, Output, Params

if TYPE_CHECKING:
    from shared.media.video_file import VideoFile
    from shared.media.video_writer import VideoWriter


@dataclass(frozen=True)
class JobEncoders:
    """The encoders of one job: its formats, its metrics, and the threads of all jobs. Implements context.Encoders.

    `most_bytes` is the largest file that anything can carry, where that is known. `deliver` takes outputs to where
    they stay, after so many others, and answers None where there is no such place.
    """

    params: Params
    metrics: JobMetrics
    threads: ThreadPoolExecutor
    most_bytes: int | None
    deliver: Callable[[list[Output], int], list[str] | None]

    def image(self, made: Made) -> "Future[Output]":
        """See context.Encoders."""
        return self.threads.submit(self._encoded, made)

    def open(self, width: int, height: int, fps: Fraction, audio: "VideoFile | None") -> "VideoWriter":
        """See context.Encoders."""
        from shared.media.video import VideoParams
        from shared.media.video_writer import VideoWriter

        params = self.params
        if not isinstance(params, VideoParams):
            raise TypeError(f"{type(params).__name__} must be VideoParams for its handler to make a video")
        return VideoWriter(width, height, fps, params.encoding(), audio=audio, most_bytes=self.most_bytes)

    def video(self, writer: "VideoWriter", seed: int | None, nsfw: bool) -> "Future[Output]":
        """See context.Encoders."""
        finishing = self.threads.submit(self._finished, writer, seed, nsfw)
        finishing.add_done_callback(lambda done: writer.abort() if done.cancelled() else None)
        return finishing

    def again(self, made: MadeVideo, check: Callable[[], None]) -> "Future[Output]":
        """See context.Encoders."""
        return self.threads.submit(self._encoded_again, made, check)

    def keep(self, made: list[Made | MadeVideo], first: int, check: Callable[[], None]) -> "Future[Kept]":
        """See context.Encoders."""
        return self.threads.submit(self._kept, made, first, check)

    def _kept(self, made: list[Made | MadeVideo], first: int, check: Callable[[], None]) -> Kept:
        outputs = [self._encoded(m) if isinstance(m, Made) else self._encoded_again(m, check) for m in made]
        return Kept(outputs, self.deliver(outputs, first))

    def _encoded_again(self, made: MadeVideo, check: Callable[[], None]) -> Output:
        info = made.video.info
        with replace(self, params=made.params or self.params).open(
            info.width, info.height, info.fps, made.video
        ) as writer:
            for frame in made.video.frames():
                check()
                writer.write(frame.pixels)
        return self._finished(writer, made.seed, made.nsfw)

    def _encoded(self, made: Made) -> Output:
        image_format: ImageFormat = getattr(made.params or self.params, "image_format", "png")
        with self.metrics.measure("encode"):
            data = encode_image(made.image, image_format)
        return Output(
            data=data,
            media_type=MEDIA_TYPES[image_format],
            extension=image_format,
            sha256=hashlib.sha256(data).hexdigest(),
            pixels_sha256=pixels_sha256(made.image),
            pixels=made.image.width * made.image.height,
            seed=made.seed,
            nsfw=made.nsfw,
        )

    def _finished(self, writer: "VideoWriter", seed: int | None, nsfw: bool) -> Output:
        with self.metrics.measure("encode"):  # what is left of it once the last frame is made
            video = writer.finish()
        return Output(
            data=video.data,
            media_type=video.media_type,
            extension=video.extension,
            sha256=hashlib.sha256(video.data).hexdigest(),
            pixels_sha256=video.pixels_sha256,
            pixels=video.width * video.height * video.frames,
            seed=seed,
            nsfw=nsfw,
            frames=video.frames,
            fps=round(float(video.fps), 4),
        )


def text_output(text: str, seed: int | None) -> Output:
    """A text as the output that a receipt names."""
    data = text.encode()
    sha256 = hashlib.sha256(data).hexdigest()
    return Output(data, "text/plain", "txt", sha256, pixels_sha256=None, pixels=0, seed=seed, nsfw=False)


def of_text(written: Written) -> dict[str, Any]:
    """The fields of a result that show a text, or the answer in the shape of another API."""
    if written.answer is not None:
        return {"answer": written.answer}
    return {"text": str(written), "usage": written.usage, "finish_reason": written.finish_reason}


def check_size(result: Mapping[str, Any], limit: int) -> None:
    """Whether the platform carries a result without files.

    Raises:
        ResultTooLarge: it does not.
    """
    size = json_bytes(result)
    if size > limit:
        raise ResultTooLarge(
            f"the answer with its receipt is {size:,} bytes of JSON; the platform carries {limit:,}; ask for less"
        )


def json_bytes(value: Any) -> int:
    """The length of a value as JSON."""
    return len(json.dumps(value, ensure_ascii=False).encode())


@cache
def software(*, torch: bool) -> dict[str, str]:
    """What computed a result, with versions."""
    names = ("pilotlight", "torch", "diffusers") if torch else ("pilotlight", "xllamacpp")
    versions = {name: _version(name) for name in names}
    return {name: version for name, version in versions.items() if version}


def version() -> str:
    """Of this software."""
    return software(torch=False).get("pilotlight", "unknown")


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:  # ours, where the root is on the path instead of installed
        return None
