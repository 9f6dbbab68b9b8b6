"""Make motion smoother: draw the frames between those of a video, or between pictures."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Self

import numpy as np
from pydantic import Field, model_validator

from shared.errors import InvalidInput
from shared.media.cuts import is_cut
from shared.media.foretell import video_bytes
from shared.media.frames import Pixels
from shared.media.image import ImageInput, read_image
from shared.media.resampling import Gap, Timed, exactly_timed, frames_at, gaps
from shared.media.video import VideoInput, VideoParams, read_video
from shared.media.video_file import VideoFile
from shared.models.interpolator import HALF, Clip, Interpolator, load
from shared.schemas import Context, Handler

DEFAULT_FPS = 24.0  # for videos of less; others get twice their rate
IMAGES_FPS = 12.0


class FrameInterpolationParams(VideoParams):
    """What is drawn between which frames."""

    video: VideoInput | None = Field(None, description="The video; its sound and duration are kept.")
    images: list[ImageInput] | None = Field(
        None, min_length=2, max_length=300, description="Pictures of one size, in place of a video."
    )
    fps: float | None = Field(None, ge=0.1, le=120, description="Pictures a second of `images`; 12 when not given.")
    factor: int | None = Field(None, ge=2, le=16, description="How many times as many frames a second.")
    target_fps: float | None = Field(
        None,
        ge=1,
        le=120,
        description="Frames a second of the result; 24, or twice the source's from 24 on, by default.",
    )
    in_between: int | None = Field(None, ge=1, le=15, description="New frames between two neighbours: `factor` - 1.")
    scene_cut: bool = Field(True, description="Where the scene changes, draw nothing between: repeat its frames.")

    @model_validator(mode="after")
    def _one_source_and_one_rate(self) -> Self:
        if (self.video is None) == (self.images is None):
            raise ValueError("give either video or images")
        if self.video is not None and self.fps is not None:
            raise ValueError("fps is for images; a video has its own")
        if sum(rate is not None for rate in (self.factor, self.target_fps, self.in_between)) > 1:
            raise ValueError("factor, target_fps and in_between say the same; give one of them")
        return self

    def new_fps(self, fps: Fraction) -> Fraction:
        """The result's frame rate, for a source's."""
        if self.target_fps is None and self.factor is None and self.in_between is None and fps < DEFAULT_FPS:
            return Fraction(DEFAULT_FPS)
        if self.target_fps is not None:
            return _exact(self.target_fps)
        return fps * (self.factor or (self.in_between or 1) + 1)


@dataclass(frozen=True)
class Source:
    """The frames that there are; `seconds` from the first to the last, as far as is known."""

    frames: Iterable[Timed]
    fps: Fraction
    seconds: Fraction
    width: int
    height: int
    video: VideoFile | None = None


def run(model: Interpolator, params: FrameInterpolationParams, ctx: Context) -> None:
    """Decode, draw and encode frame by frame; frames of the source are passed through as they are."""
    source = _of_video(read_video(params.video)) if params.video else _of_images(params)
    fps = params.new_fps(source.fps)
    ctx.effective(target_fps=float(fps))
    clip, total = model.clip(ctx.check), frames_at(fps, source.seconds)
    read = cuts = made = 0
    with ctx.video(source.width, source.height, fps, audio=source.video) as out:
        for gap in gaps(source.frames, fps):
            cut = params.scene_cut and is_cut(gap.first, gap.last)
            read, cuts = read + 1, cuts + cut
            for pixels in _repeated(gap) if cut else _drawn(clip, gap):
                out.write(pixels)
                made += 1
                ctx.step(made, max(made, total))
    ctx.note(frames_in=read, frames_out=made, cuts=cuts)


def _repeated(gap: Gap) -> Iterator[Pixels]:
    """The scene before a cut up to the middle, then the one after it."""
    return (gap.first if time < HALF else gap.last for time in gap.times)


def _drawn(clip: Clip, gap: Gap) -> Iterator[Pixels]:
    if 0 in gap.times:
        yield gap.first
    yield from clip.between(gap.first, gap.last, [time for time in gap.times if time])


def _of_video(video: VideoFile) -> Source:
    info = video.info
    seconds = (info.frames - 1) / info.fps if info.frames else Fraction(info.seconds or 0)
    return Source(exactly_timed(video), info.fps, seconds, info.width, info.height, video)


def _of_images(params: FrameInterpolationParams) -> Source:
    images, fps = [read_image(image) for image in params.images or ()], _exact(params.fps or IMAGES_FPS)
    width, height = images[0].size
    for number, image in enumerate(images, start=1):
        if image.size != (width, height):
            raise InvalidInput(
                f"image {number} has {image.width} x {image.height} pixels, and the first {width} x {height}; send "
                "images of one size"
            )
    frames = (Timed(np.asarray(image), number / fps) for number, image in enumerate(images))
    return Source(frames, fps, (len(images) - 1) / fps, width, height)


def _exact(fps: float) -> Fraction:
    """29.97 as 2997/100, not as the nearest binary fraction."""
    return Fraction(fps).limit_denominator(1001)


def expected_bytes(params: FrameInterpolationParams) -> int:
    """Of a video, without the frames that are added: the least that it takes."""
    return video_bytes(read_video(params.video), 1.0, params) if params.video else 0


handler = Handler(
    params=FrameInterpolationParams,
    load=load,
    run=run,
    output=lambda params: "video",
    expected_bytes=expected_bytes,
)
