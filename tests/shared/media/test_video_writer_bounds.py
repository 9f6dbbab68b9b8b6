"""What encoders and formats take: codecs, rates, sizes and settings."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from shared.errors import InvalidInput
from shared.media.frames import Pixels
from shared.media.video_writer import Encoding, VideoWriter
from tests.shared.media.clips import plain
from tests.shared.media.writing import written

pytestmark = pytest.mark.usefixtures("folder")


@pytest.mark.parametrize(
    ("wanted", "named"),
    [
        ({"format": "mp4", "crf": 52}, "between 0 and 51"),
        ({"format": "mp4", "crf": -1}, "between 0 and 51"),
        ({"format": "webm", "crf": 64}, "between 0 and 63"),
        ({"format": "webm", "codec": "h264"}, "ask for vp9 or av1"),
        ({"format": "mp4", "codec": "vp9"}, "ask for h264 or av1"),
        ({"format": "mp4", "preset": "warp"}, "ultrafast"),
        ({"format": "mp4", "codec": "av1", "preset": "14"}, "preset for av1"),
        ({"format": "gif", "crf": 20}, "a gif has no codec"),
    ],
)
def test_what_does_not_go_together_is_refused(wanted: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidInput, match=named):
        Encoding(**wanted)


@pytest.mark.parametrize(("fps", "encoding"), [(0, "mp4"), (-1, "mp4"), (1001, "mp4"), (51, "gif")])
def test_rates_that_a_format_does_not_hold_are_refused(fps: int, encoding: Any) -> None:
    with pytest.raises(InvalidInput, match="frames a second"):
        VideoWriter(64, 48, Fraction(fps), Encoding(encoding))


def test_a_rate_from_a_float_is_rounded() -> None:
    assert written([plain(16, 16)] * 2, Encoding("mp4"), Fraction(29.97)).fps == Fraction(2997, 100)


def test_crf_and_preset_reach_the_encoder() -> None:
    random = np.random.default_rng(1)
    pictures: list[Pixels] = [random.integers(0, 256, (96, 128, 3), np.uint8) for _ in range(6)]

    for fine, coarse in (
        (Encoding("mp4", crf=10), Encoding("mp4", crf=40)),
        (Encoding("webm", crf=10), Encoding("webm", crf=60)),
        (Encoding("mp4", "av1", crf=10), Encoding("mp4", "av1", crf=60)),
    ):
        assert len(written(pictures, fine).data) > 1.5 * len(written(pictures, coarse).data)
    assert b"cabac=0" in written(pictures, Encoding("mp4", preset="ultrafast")).data


SIZES: list[tuple[str, str | None, int, int]] = [
    ("mp4", "h264", 16_386, 64),
    ("mp4", "h264", 20_000, 64),
    ("mp4", "h264", 2, 16_386),
    ("mp4", "av1", 16_386, 64),
    ("webm", "av1", 64, 8_706),
    ("webm", "vp9", 65_536, 4),
    ("gif", None, 70_000, 4),
]


@pytest.mark.parametrize(("container", "codec", "width", "height"), SIZES)
def test_frames_larger_than_an_encoder_takes_are_refused(container: Any, codec: Any, width: int, height: int) -> None:
    with pytest.raises(
        InvalidInput, match=rf"frames of {width} x {height} do not go into (a gif|{codec}), which takes"
    ):
        VideoWriter(width, height, Fraction(24), Encoding(container, codec))


@pytest.mark.parametrize(
    ("container", "codec", "width", "height"),
    [("mp4", "h264", 16_384, 16), ("mp4", "av1", 64, 8_704), ("webm", "vp9", 65_535, 4), ("gif", None, 4, 65_535)],
)
def test_frames_as_large_as_an_encoder_takes_are_written(container: Any, codec: Any, width: int, height: int) -> None:
    video = written([plain(width, height)], Encoding(container, codec))
    assert (video.width, video.height, video.frames) == (width, height, 1)
