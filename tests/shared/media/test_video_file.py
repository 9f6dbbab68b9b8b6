"""The frames of a video, their times, and what the header says of them."""

import itertools
import struct
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest

from shared.errors import MediaTooLarge
from shared.media.video_file import VideoFile
from tests.shared.media.clips import LIMITS, RED, counting, limits, numbers, pictures_of, plain, video_of


@pytest.mark.parametrize(
    ("container", "codec", "pix_fmt"),
    [
        ("mp4", "libx264", "yuv420p"),
        ("mp4", "libx264", "yuv444p"),
        ("mov", "libx264", "yuv420p10le"),
        ("matroska", "libx264", "yuv422p"),
        ("mp4", "libx265", "yuv420p10le"),
        ("mp4", "mpeg4", "yuv420p"),
        ("avi", "mpeg4", "yuv420p"),
        ("webm", "libvpx-vp9", "yuv420p"),
        ("webm", "libvpx", "yuv420p"),
        ("mp4", "libsvtav1", "yuv420p10le"),
        ("matroska", "ffv1", "bgr0"),
        ("mov", "prores_ks", "yuv422p10le"),
        ("gif", "gif", "rgb8"),
    ],
)
def test_every_frame_comes_out_in_its_order_as_rgb(container: str, codec: str, pix_fmt: str) -> None:
    video = VideoFile(video_of(counting(64, 48, 10), container, codec, pix_fmt), LIMITS)

    frames = list(video.frames())

    assert numbers(frame.pixels for frame in frames) == list(range(10))
    assert all(f.pixels.shape == (48, 64, 3) and f.pixels.dtype == np.uint8 for f in frames)
    assert np.allclose(frames[4].pixels[24, 56], RED, atol=50 if codec == "gif" else 12)  # it has 3-3-2 bits
    assert not video.truncated


def test_the_header_is_known_before_the_frames() -> None:
    info = VideoFile(video_of(counting(64, 48, 12), fps=Fraction(24000, 1001), audio="aac"), LIMITS).info

    assert (info.width, info.height, info.fps, info.frames) == (64, 48, Fraction(24000, 1001), 12)
    assert info.seconds == pytest.approx(12 * 1001 / 24000, abs=0.001)
    assert (info.has_audio, info.container, info.is_constant) == (True, "mov", True)


@pytest.mark.parametrize(
    ("container", "codec", "options"),
    [
        ("webm", "libvpx-vp9", {}),
        ("webm", "libvpx", {"live": "1"}),
        ("avi", "mpeg4", {}),
        ("mp4", "libx264", {"movflags": "frag_keyframe+empty_moov"}),
    ],
    ids=str,
)
def test_where_the_header_counts_no_frames_the_packets_do(
    container: str, codec: str, options: dict[str, str]
) -> None:
    """With `live` it does not even say how long the video is, as browsers record it."""
    data = video_of(counting(32, 32, 12), container, codec, container_options=options)
    info = VideoFile(data, LIMITS).info

    assert (info.frames, info.fps, info.has_audio, info.is_constant) == (12, Fraction(24), False, True)
    assert info.seconds == pytest.approx(0.5, abs=1e-3)


def test_where_the_header_says_nothing_the_packets_are_held_against_the_limits() -> None:
    data = video_of(counting(32, 32, 12), "webm", "libvpx-vp9", container_options={"live": "1"})

    for too_low in (limits(max_frames=11), limits(max_seconds=0.4)):
        with pytest.raises(MediaTooLarge):
            VideoFile(data, too_low)


def test_a_rate_that_the_frames_contradict_is_not_believed() -> None:
    """A thousand a second by the header, seven in a second and a half by their times."""
    ticks = [0, 250, 480, 760, 1000, 1250, 1500]
    info = VideoFile(video_of(counting(32, 32, 7), "webm", "libvpx", fps=Fraction(1000), pts=ticks), LIMITS).info

    assert (info.fps, info.frames, info.is_constant) == (Fraction(4), 7, False)


def test_a_rate_is_believed_though_a_few_frames_last_long() -> None:
    info = VideoFile(video_of(counting(32, 32, 6), "matroska", pts=[0, 1, 2, 3, 4, 60]), LIMITS).info

    assert (info.fps, info.is_constant) == (Fraction(24), False)


def test_a_rate_of_a_few_frames_is_not_believed_where_the_rest_would_be_too_many() -> None:
    data = video_of(counting(32, 32, 5), "webm", "libvpx", fps=Fraction(1000), pts=[0, 1, 2, 3, 4000])

    assert VideoFile(data, LIMITS).info.fps == 1


def test_a_last_frame_that_lasts_long_leaves_the_rate_of_the_others() -> None:
    whole = video_of(counting(32, 32, 8), options={"bf": "0"})
    assert VideoFile(whole, LIMITS).info.fps == Fraction(24)
    stts = whole.index(b"stts") + 8  # how many runs; the first one's count and duration
    runs, count, ticks = struct.unpack_from(">III", whole, stts)
    assert (runs, count) == (1, 8)
    longer = struct.pack(">IIIII", 2, 7, ticks, 1, 12 * ticks)
    grown = bytearray(whole[:stts] + longer + whole[stts + 12 :])
    for box in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stts"):
        start = grown.index(box) - 4
        grown[start : start + 4] = struct.pack(">I", struct.unpack_from(">I", grown, start)[0] + 8)

    info = VideoFile(bytes(grown), LIMITS).info

    assert (info.frames, info.fps, info.is_constant) == (8, Fraction(24), True)


@pytest.mark.parametrize(("audio", "named"), [(None, None), ("aac", "aac"), ("mp2", "mp2")])
def test_the_codec_of_the_sound_is_known_before_the_frames(audio: str | None, named: str | None) -> None:
    info = VideoFile(video_of(counting(32, 32, 3), "matroska", audio=audio), LIMITS).info

    assert (info.audio_codec, info.has_audio) == (named, audio is not None)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_frames_are_turned_upright(degrees: int, mirrored: bool) -> None:
    stored = plain(64, 32, (40, 40, 40))
    stored[:16, :32] = RED

    video = VideoFile(video_of([stored] * 2, turn=(degrees, mirrored)), LIMITS)
    shown = next(video.frames()).pixels

    expected = np.rot90(stored, degrees // 90)
    expected = expected[:, ::-1] if mirrored else expected
    assert (video.info.height, video.info.width) == expected.shape[:2] == shown.shape[:2]
    assert np.abs(shown.astype(int) - expected).mean() < 6


def test_times_follow_the_file_where_the_rate_varies() -> None:
    ticks = [0, 1, 2, 10, 11, 30]
    video = VideoFile(video_of(counting(32, 32, 6), fps=Fraction(25), pts=ticks), LIMITS)

    assert [frame.time_s for frame in video.frames()] == pytest.approx([tick / 25 for tick in ticks])
    assert video.info.is_constant is False


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_times_of_an_avi_are_in_the_order_of_being_shown(codec: str) -> None:
    data = video_of(counting(32, 32, 12), "avi", codec, options={"bf": "2"})

    frames = list(VideoFile(data, LIMITS).frames())

    assert numbers(frame.pixels for frame in frames) == list(range(12))
    assert [frame.time_s * 24 for frame in frames] == pytest.approx(list(range(12)))


def test_times_start_at_zero() -> None:
    video = VideoFile(video_of(counting(32, 32, 4), "matroska", pts=[100, 101, 102, 103]), LIMITS)

    assert next(video.frames()).time_s == 0.0


def test_times_increase_though_those_of_the_file_stand_still() -> None:
    whole = video_of(counting(32, 32, 6), fps=Fraction(25), options={"bf": "0"})
    stts = whole.index(b"stts") + 16  # count and duration of the first run
    video = VideoFile(whole[:stts] + struct.pack(">I", 0) + whole[stts + 4 :], LIMITS)

    times = [frame.time_s for frame in video.frames()]

    assert len(times) == 6
    assert times[0] == 0.0
    assert all(later > earlier for earlier, later in itertools.pairwise(times))


def test_iterators_are_independent() -> None:
    video = VideoFile(video_of(counting(32, 32, 8)), LIMITS)

    one, other = video.frames(), video.frames()
    first = [next(one) for _ in range(5)]

    assert numbers(frame.pixels for frame in other) == list(range(8))
    assert numbers(frame.pixels for frame in (*first, *one)) == list(range(8))


def test_frames_may_be_changed() -> None:
    video = VideoFile(video_of(counting(32, 32, 4)), LIMITS)

    for frame in video.frames():
        frame.pixels[:] = 0

    assert numbers(frame.pixels for frame in video.frames()) == list(range(4))


def test_a_video_of_one_frame() -> None:
    assert len(pictures_of(video_of([plain(32, 32)]))) == 1


def test_ffmpeg_writes_nothing_to_stderr() -> None:
    script = """
import sys
from shared.media.video_file import VideoFile
from tests.shared.media.clips import LIMITS, counting, damaged, video_of
for container, codec in (("mp4", "libx264"), ("avi", "mpeg4"), ("webm", "libvpx-vp9")):
    data = video_of(counting(32, 32, 20), container, codec)
    try:
        list(VideoFile(damaged(data, 0.5), LIMITS).frames())
    except Exception:
        pass
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=60)

    assert (done.returncode, done.stderr) == (0, b"")
