"""Make motion smoother: draw the frames between those of a video, or between pictures."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Self

import numpy as np
from pydantic import Field, model_validator

from shared.errors import InvalidInput
from shared.media import resampling
from shared.media.audio import check_sound
from shared.media.cuts import CutFinder
from shared.media.foretell import video_bytes
from shared.media.frames import Pixels
from shared.media.image import ImageInput, read_image
from shared.media.resampling import Gap, Timed
from shared.media.video import VideoInput, VideoParams, read_video
from shared.media.video_file import VideoFile
from shared.models.interpolator import HALF, Clip, Interpolator, load
from shared.schemas import Context, Handler

IMAGES_FPS = 12.0


class FrameInterpolationParams(VideoParams):
    """What is drawn between which frames."""

    video: VideoInput | None = Field(
        None, description="The video; its sound is kept, and the result ends with its last frame."
    )
    images: list[ImageInput] | None = Field(
        None, min_length=2, max_length=300, description="Pictures of one size, in place of a video."
    )
    fps: float | None = Field(None, ge=0.1, le=120, description="Pictures a second of `images`; 12 when not given.")
    factor: int | None = Field(None, ge=2, le=16, description="How many times as many frames a second.")
    target_fps: float | None = Field(
        None,
        ge=1,
        le=120,
        description="Frames a second of the result; twice the source's by default, or 24 where that has 16 or fewer.",
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
        if self.target_fps is not None:
            return resampling.exact_fps(self.target_fps, fps)
        times = self.factor or (self.in_between and self.in_between + 1)
        return fps * times if times else resampling.smooth_fps(fps)


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
    check(params)
    source = _source(params)
    fps = params.new_fps(source.fps)
    ctx.effective(target_fps=float(fps))
    clip, cut_finder, total = model.clip(ctx.check), CutFinder(), resampling.frames_at(fps, source.seconds)
    read = cuts = made = 0
    with ctx.video(source.width, source.height, fps, audio=source.video) as out:
        for gap in resampling.gaps(source.frames, fps):
            cut = params.scene_cut and cut_finder.is_cut(gap.first, gap.last)
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


def _source(params: FrameInterpolationParams) -> Source:
    if params.video is None:
        return _of_images(params)
    video = read_video(params.video)
    info = video.info
    return Source(
        resampling.exactly_timed(video), info.fps, resampling.last_frame_s(info), info.width, info.height, video
    )


def _of_images(params: FrameInterpolationParams) -> Source:
    images, fps = params.images or [], resampling.exact_fps(params.fps or IMAGES_FPS)
    width, height = read_image(images[0]).size
    frames = (Timed(np.asarray(read_image(image)), number / fps) for number, image in enumerate(images))
    return Source(frames, fps, (len(images) - 1) / fps, width, height)


def check(params: FrameInterpolationParams) -> None:
    """Refuse what the parameters and the header of the video already tell, before the job has the device.

    Raises:
        InvalidInput: pictures of two sizes, more frames than a job may make or a second holds, or unreadable sound.
    """
    source = _source(params)
    fps = params.new_fps(source.fps)
    encoding = params.encoding()
    encoding.check_rate(fps)
    encoding.check_size(source.width, source.height)
    resampling.check_frames(fps, source.seconds)
    if source.video and params.video_format != "gif":
        check_sound(source.video.info.audio_codec)
    for number, image in enumerate(map(read_image, params.images or ()), start=1):
        if image.size != (source.width, source.height):
            raise InvalidInput(
                f"image {number} has {image.width} x {image.height} pixels, and the first {source.width} x "
                f"{source.height}; send images of one size"
            )


def expected_bytes(params: FrameInterpolationParams, on_frame: Callable[[], None] = lambda: None) -> int:
    """Of a video, without the frames that are added: the least that it takes.

    `on_frame` is called while its frames are looked at, and may raise.
    """
    check(params)
    if params.video is None:
        return 0
    video = read_video(params.video)
    return video_bytes(video, 1.0, params, fps=params.new_fps(video.info.fps), check=on_frame)


handler = Handler(
    params=FrameInterpolationParams,
    load=load,
    to_device=Interpolator.to_device,
    run=run,
    output=lambda params: "video",
    check=check,
    expected_bytes=expected_bytes,
)
