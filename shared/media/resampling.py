"""Which frames a video has at another frame rate, and where between the source's frames they lie."""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import NamedTuple

from shared.media.frames import Pixels
from shared.media.video_file import VideoFile

ROUNDING_S = Fraction(1, 1000)  # Matroska writes times in milliseconds


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
    """The frames at the times that were meant: the n-th at n / fps where they last equally long or nearly so."""
    fps = video.info.fps
    for number, frame in enumerate(video.frames()):
        if video.info.is_constant:
            yield Timed(frame.pixels, number / fps)
            continue
        regular = round(frame.time_s * fps) / fps
        is_regular = abs(regular - Fraction(frame.time_s)) <= ROUNDING_S
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
