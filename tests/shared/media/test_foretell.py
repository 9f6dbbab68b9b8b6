from fractions import Fraction

import numpy as np
import pytest

from shared.media.foretell import video_bytes
from shared.media.video import VideoParams
from shared.media.video_file import VideoFile, VideoLimits
from shared.media.video_writer import Encoding, VideoWriter

LIMITS = VideoLimits(10**6, 1000, 100)


def film(frames: int, *, noise: int, side: int = 96) -> VideoFile:
    """Frames that change by so much noise."""
    random = np.random.default_rng(1)
    writer = VideoWriter(side, side, Fraction(24), Encoding("mp4", None, 10))
    for _ in range(frames):
        writer.write(random.integers(0, noise + 1, (side, side, 3), np.uint8))
    return VideoFile(writer.finish().data, LIMITS)


def encoded_bytes(video: VideoFile, params: VideoParams) -> int:
    writer = VideoWriter(96, 96, Fraction(24), params.encoding())
    for frame in video.frames():
        writer.write(frame.pixels)
    return len(writer.finish().data)


@pytest.mark.parametrize("crf", [10, 30])
def test_foretells_the_size_of_the_whole_from_its_first_frames(crf: int) -> None:
    video, params = film(100, noise=200), VideoParams(crf=crf)
    assert 0.7 < video_bytes(video, 1, params) / encoded_bytes(video, params) < 1.4


def test_a_larger_picture_takes_more() -> None:
    video = film(40, noise=200)
    assert video_bytes(video, 2, VideoParams()) > 1.5 * video_bytes(video, 1, VideoParams())


def test_a_short_video_is_encoded_whole() -> None:
    video = film(3, noise=200)
    assert video_bytes(video, 1, VideoParams()) == encoded_bytes(video, VideoParams())
