"""Another frame rate: how many frames there are, at which times, between which of the source's."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

from shared.media.frames import Pixels
from shared.media.resampling import Gap, Timed, exactly_timed, frames_at, gaps
from shared.media.video_file import VideoFile
from tests.shared.media.clips import LIMITS, counting, video_of


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
