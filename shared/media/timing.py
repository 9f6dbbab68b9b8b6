"""When the frames of a video are shown, by what its container says of each, before anything is decoded."""

import itertools
import statistics
from fractions import Fraction
from typing import NamedTuple

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from shared.media.frames import VideoLimits

_USUAL_FPS = Fraction(25)  # where nothing tells
_COARSE_TICKS = 4  # below, frames that differ by one tick in their length do not last equally long


class Timing(NamedTuple):
    """How many frames there are, how many a second, and `seconds` to 1 / fps after the last one begins."""

    frames: int | None
    fps: Fraction
    seconds: float | None
    is_constant: bool | None


def timing(container: InputContainer, stream: VideoStream, demuxer: str, limits: VideoLimits) -> Timing:
    """By the index of an MP4, which has every frame; by the packets of others, of which it reads all.

    A rate in the header is kept where the frames allow it: it is exact, and their times are rounded.

    Raises:
        MediaTooLarge: more frames or seconds than the limits.
    """
    said = stream.average_rate or stream.guessed_rate
    if demuxer == "mov" and stream.frames and len(stream.index_entries) == stream.frames:
        count, ticks = stream.frames, [entry.timestamp for entry in stream.index_entries]
    else:
        count, ticks = _packets(container, stream, limits)
    ticks.sort()
    gaps = [after - before for before, after in itertools.pairwise(ticks)]
    tick_s = stream.time_base
    if not count or len(ticks) < count or tick_s is None:
        return Timing(count or None, said or _USUAL_FPS, None, None)
    is_constant = not gaps or max(gaps) - min(gaps) <= (min(gaps) >= _COARSE_TICKS)
    fps = _rate(said, [gap * tick_s for gap in gaps], limits.max_frames, is_constant=is_constant)
    return Timing(count, fps, float(sum(gaps) * tick_s + 1 / fps), is_constant)


def _packets(container: InputContainer, stream: VideoStream, limits: VideoLimits) -> tuple[int, list[int]]:
    """How many packets there are, and the times of those that have one, in ticks of the stream."""
    count, ticks, tick_s = 0, list[int](), stream.time_base or Fraction(0)
    try:
        for packet in container.demux(stream):
            if not packet.size:
                continue
            count += 1
            tick = packet.dts if packet.pts is None else packet.pts
            if tick is not None:
                ticks.append(tick)
            limits.check_length(count, float((ticks[-1] - ticks[0]) * tick_s) if ticks else 0.0)
    except (av.FFmpegError, OSError):  # the file breaks off here, as it will when it is decoded
        pass
    return count, ticks


def _rate(said: Fraction | None, gaps_s: list[Fraction], most: int, *, is_constant: bool) -> Fraction:
    """Frames a second: as the header says, unless that contradicts the times; then their average.

    Nor is it believed where a video of that rate would have more than `most` frames, for the gaps that it leaves.
    """
    span_s = sum(gaps_s, Fraction(0))
    if not span_s:
        return said or _USUAL_FPS
    average = (len(gaps_s) / span_s).limit_denominator(1001)
    if said is None:
        return average
    if is_constant:
        return said if abs(len(gaps_s) / said - span_s) < 1 / (4 * said) else average
    usual_s = statistics.median(gaps_s)
    return said if usual_s / 2 <= 1 / said <= usual_s * 2 and span_s * said < most else average
