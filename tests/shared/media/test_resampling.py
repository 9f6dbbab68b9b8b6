"""Another frame rate: how many frames there are, at which times, between which of the source's."""

import io
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest

from shared.errors import InvalidInput
from shared.media.frames import Pixels
from shared.media.resampling import (
    MOST_FRAMES,
    Gap,
    Timed,
    check_frames,
    exact_fps,
    exactly_timed,
    frames_at,
    gaps,
    last_frame_s,
    smooth_fps,
)
from shared.media.video_file import VideoFile
from tests.shared.media.clips import LIMITS, counting, numbers, video_of


def frames(count: int, fps: Fraction) -> list[Timed]:
    return [Timed(np.full((1, 1, 3), n, np.uint8), n / fps) for n in range(count)]


def number(pixels: Pixels) -> int:
    return int(pixels[0, 0, 0])


def places(found: list[Gap]) -> list[Fraction]:
    """Where the new frames lie, counted in frames of a source that is regular."""
    return [number(gap.first) + time for gap in found for time in gap.times]


@pytest.mark.parametrize(
    ("count", "fps", "target"),
    [
        (25, Fraction(12), Fraction(24)),
        (25, Fraction(8), Fraction(24)),
        (10, Fraction(24000, 1001), Fraction(60)),
        (50, Fraction(30), Fraction(24)),
        (7, Fraction(25), Fraction(25)),
        (2, Fraction(1), Fraction(16)),
        (5, Fraction(30000, 1001), Fraction(120000, 1001)),
    ],
)
def test_there_are_as_many_frames_as_the_rates_say_evenly_spaced(count: int, fps: Fraction, target: Fraction) -> None:
    found = places(list(gaps(frames(count, fps), target)))
    assert len(found) == int((count - 1) * target / fps) + 1 == frames_at(target, (count - 1) / fps)
    assert found == [k * fps / target for k in range(len(found))]


def test_forty_nine_frames_come_of_twenty_five_and_last_as_long() -> None:
    assert len(places(list(gaps(frames(25, Fraction(12)), Fraction(24))))) == 49


def test_every_frame_comes_once_as_the_first_of_its_gap_and_is_the_last_of_the_one_before() -> None:
    found = list(gaps(frames(4, Fraction(10)), Fraction(25)))
    assert [number(gap.first) for gap in found] == [0, 1, 2, 3]
    assert all(before.last is after.first for before, after in pairwise(found))
    assert found[-1].first is found[-1].last


def test_times_between_irregular_frames_are_shares_of_their_gap() -> None:
    source = [Timed(np.zeros((1, 1, 3), np.uint8), Fraction(t, 10)) for t in (0, 1, 5)]
    assert [gap.times for gap in gaps(source, Fraction(10))] == [
        [0],
        [0, Fraction(1, 4), Fraction(1, 2), Fraction(3, 4)],
        [0],
    ]


def test_a_single_frame_is_one_frame_and_none_is_none() -> None:
    assert places(list(gaps(frames(1, Fraction(5)), Fraction(24)))) == [0]
    assert list(gaps([], Fraction(24))) == []


def test_frames_at_one_time_do_no_harm() -> None:
    source = [Timed(np.zeros((1, 1, 3), np.uint8), Fraction(t)) for t in (0, 1, 1, 2)]
    assert sum(len(gap.times) for gap in gaps(source, Fraction(2))) == 5


def test_only_two_frames_are_held() -> None:
    read = 0

    def counted() -> "object":
        nonlocal read
        for frame in frames(100, Fraction(10)):
            read += 1
            yield frame

    ahead = [read - n for n, _ in enumerate(gaps(counted(), Fraction(20)))]  # type: ignore[arg-type]
    assert max(ahead) <= 2


@pytest.mark.parametrize("fps", [Fraction(24), Fraction(24000, 1001), Fraction(60)])
@pytest.mark.parametrize("container", ["mp4", "matroska"])
def test_regular_frames_have_exact_times_however_the_container_rounds_them(fps: Fraction, container: str) -> None:
    source = VideoFile(video_of(counting(16, 16, 8), container, fps=fps), LIMITS)
    regular = source.info.fps
    assert [frame.time_s for frame in exactly_timed(source)] == [n / regular for n in range(8)]


def test_irregular_frames_keep_their_own_times() -> None:
    shown = [0, 1, 4, 4 + 1, 7]
    source = VideoFile(video_of(counting(16, 16, 5), fps=Fraction(10), pts=shown), LIMITS)
    assert [float(frame.time_s) for frame in exactly_timed(source)] == pytest.approx(
        [t / 10 for t in shown], abs=1e-3
    )


def without_frames(data: bytes, gone: range) -> bytes:
    """The MP4 with zeros for some of its frames; its index stays whole."""
    spoilt = bytearray(data)
    with av.open(io.BytesIO(data), "r") as container:
        for entry in container.streams.video[0].index_entries[gone.start : gone.stop]:
            spoilt[entry.pos : entry.pos + entry.size] = bytes(entry.size)
    return bytes(spoilt)


def test_frames_behind_damaged_ones_stay_where_they_were() -> None:
    whole = video_of(counting(64, 48, 12), fps=Fraction(12), options={"g": "1", "crf": "1"})
    source = VideoFile(without_frames(whole, range(4, 7)), LIMITS)
    assert source.info.is_constant

    timed = list(exactly_timed(source))

    assert numbers(frame.pixels for frame in timed) == [0, 1, 2, 3, 7, 8, 9, 10, 11]
    assert [frame.time_s * 12 for frame in timed] == [0, 1, 2, 3, 7, 8, 9, 10, 11]
    assert len(places(list(gaps(timed, Fraction(24))))) == 23


@pytest.mark.parametrize("container", ["mp4", "matroska", "avi"])
def test_the_last_frame_begins_one_frame_before_the_end(container: str) -> None:
    codec = "mpeg4" if container == "avi" else "libx264"
    info = VideoFile(video_of(counting(16, 16, 13), container, codec, fps=Fraction(12)), LIMITS).info
    assert last_frame_s(info) == 1


def test_the_last_of_uneven_frames_begins_where_its_container_says() -> None:
    data = video_of(counting(16, 16, 4), "matroska", fps=Fraction(10), pts=[0, 1, 4, 20])
    assert float(last_frame_s(VideoFile(data, LIMITS).info)) == pytest.approx(2.0, abs=0.01)


@pytest.mark.parametrize(
    ("typed", "source", "meant"),
    [
        (59.94, Fraction(30000, 1001), Fraction(60000, 1001)),
        (29.97, Fraction(30000, 1001), Fraction(30000, 1001)),
        (23.976, Fraction(24000, 1001), Fraction(24000, 1001)),
        (23.98, Fraction(24000, 1001), Fraction(24000, 1001)),
        (14.985, Fraction(30000, 1001), Fraction(15000, 1001)),
        (59.94, Fraction(24000, 1001), Fraction(60000, 1001)),
        (59.94, Fraction(2997, 100), Fraction(2997, 50)),
        (30, Fraction(30000, 1001), Fraction(30)),
        (60, Fraction(24), Fraction(60)),
        (24, Fraction(25), Fraction(24)),
        (119.88, None, Fraction(120000, 1001)),
        (29.97, None, Fraction(30000, 1001)),
        (12.5, None, Fraction(25, 2)),
        (0.1, None, Fraction(1, 10)),
        (120, None, Fraction(120)),
    ],
)
def test_rates_are_taken_as_they_are_meant(typed: float, source: Fraction | None, meant: Fraction) -> None:
    assert exact_fps(typed, source) == meant


@pytest.mark.parametrize("typed", range(1, 121))
def test_a_whole_rate_is_itself(typed: int) -> None:
    assert exact_fps(float(typed)) == exact_fps(float(typed), Fraction(30000, 1001)) == typed


@pytest.mark.parametrize(
    ("fps", "smooth"),
    [
        (Fraction(8), Fraction(24)),
        (Fraction(16), Fraction(24)),
        (Fraction(24000, 1001), Fraction(48000, 1001)),
        (Fraction(24), Fraction(48)),
        (Fraction(60), Fraction(120)),
    ],
)
def test_by_default_frames_are_doubled_and_few_become_24(fps: Fraction, smooth: Fraction) -> None:
    assert smooth_fps(fps) == smooth


def test_more_frames_than_a_job_may_make_are_refused() -> None:
    check_frames(Fraction(60), Fraction(MOST_FRAMES - 1, 60))
    with pytest.raises(InvalidInput, match=r"would have 36,001 frames; 36,000 are the most"):
        check_frames(Fraction(60), Fraction(MOST_FRAMES, 60))
