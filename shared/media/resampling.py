"""Which frames a video has at another frame rate, and where between the source's frames they lie."""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import NamedTuple

from shared.errors import InvalidInput
from shared.media.frames import Pixels, VideoInfo
from shared.media.video_file import VideoFile

ROUNDING_S = Fraction(1, 1000)  # Matroska writes times in milliseconds
AS_TYPED = Fraction(2, 10_000)  # how far 23.98 is from 24000/1001, relative to it
SMOOTH_FPS = Fraction(24)
MOST_DOUBLED = Fraction(16)  # frames a second that become 24; more become twice as many
MOST_FRAMES = 36_000  # of a result: ten minutes at 60 a second


class Timed(NamedTuple):
    """A frame, and its time in seconds."""

    pixels: Pixels
    time_s: Fraction


class Gap(NamedTuple):
    """Two neighbouring frames of the source, and the times of new frames, 0 at the first and below 1 at the last."""

    first: Pixels
    last: Pixels
    times: list[Fraction]


def exactly_timed(video: VideoFile) -> Iterator[Timed]:
    """The frames at the times that were meant: whole multiples of 1 / fps where they last equally long or nearly so.

    One that cannot be decoded leaves a hole, and those after it stay where they were.
    """
    fps = video.info.fps
    for frame in video.frames():
        regular = round(frame.time_s * fps) / fps
        is_regular = video.info.is_constant or abs(regular - Fraction(frame.time_s)) <= ROUNDING_S
        yield Timed(frame.pixels, regular if is_regular else Fraction(frame.time_s).limit_denominator(10_000))


def gaps(frames: Iterable[Timed], fps: Fraction) -> Iterator[Gap]:
    """Each frame and the next, with the times k / fps that lie between them; only two frames are held.

    The last one comes with itself, and with time 0 should a new frame lie on it.
    """
    number, before = 0, None
    for frame in frames:
        if before is not None:
            times = []
            while (due := number / fps) < frame.time_s:
                times.append((due - before.time_s) / (frame.time_s - before.time_s))
                number += 1
            yield Gap(before.pixels, frame.pixels, times)
        before = frame
    if before is not None:
        yield Gap(before.pixels, before.pixels, [Fraction(0)] if number / fps == before.time_s else [])


def frames_at(fps: Fraction, seconds: Fraction) -> int:
    """How many frames a video has from its first one to `seconds` later."""
    return int(seconds * fps) + 1


def check_frames(fps: Fraction, seconds: Fraction) -> None:
    """Whether that is a number of frames that a job may make.

    Raises:
        InvalidInput: it is larger.
    """
    if (count := frames_at(fps, seconds)) > MOST_FRAMES:
        raise InvalidInput(
            f"the result would have {count:,} frames; {MOST_FRAMES:,} are the most: ask for fewer a second, or send "
            "less to draw between"
        )


def last_frame_s(info: VideoInfo) -> Fraction:
    """When the last frame of a video begins, counted from the first one, as far as is known."""
    if info.is_constant and info.frames:
        return (info.frames - 1) / info.fps
    return max(Fraction(0), Fraction(info.seconds or 0) - 1 / info.fps)


def smooth_fps(fps: Fraction) -> Fraction:
    """The rate that a video gets when none is asked for: 24, or twice its own where that is more than 16."""
    return 2 * fps if fps > MOST_DOUBLED else SMOOTH_FPS


def exact_fps(typed: float, source: Fraction | None = None) -> Fraction:
    """The rate that was meant by a decimal number: 59.94 is 60000/1001, and 12.5 is 25/2.

    Next to the source's rate, or a whole multiple or part of it, it is exactly that, so that frames fall on frames.
    """
    fps = Fraction(typed)
    if source:
        times = round(fps / source) or Fraction(1, round(source / fps))
        if _is_near(fps, source * times):
            return source * times
    ntsc = Fraction(round(fps * 1001 / 1000) * 1000, 1001)
    return ntsc if _is_near(fps, ntsc) else fps.limit_denominator(1001)


def _is_near(fps: Fraction, meant: Fraction) -> bool:
    return abs(fps - meant) <= AS_TYPED * meant
