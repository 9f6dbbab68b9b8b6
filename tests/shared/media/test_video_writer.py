"""Videos as they are written: their pictures, rates and sizes, and the hash of what was given."""

import io
import struct
import subprocess
import sys
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from shared.media.image import pixels_sha256
from shared.media.video_file import VideoFile
from shared.media.video_writer import Encoding, VideoWriter
from tests.shared.media.clips import LIMITS, RED, counting, numbers, plain
from tests.shared.media.writing import ENCODINGS, needs_ffprobe, probed, written

NTSC = Fraction(24000, 1001)

pytestmark = pytest.mark.usefixtures("folder")


@pytest.mark.parametrize("encoding", ENCODINGS, ids=str)
@pytest.mark.parametrize("fps", [Fraction(24), NTSC, Fraction(25, 2)])
def test_frames_rate_and_length_are_exact(encoding: Encoding, fps: Fraction) -> None:
    video = written(counting(64, 48, 25), encoding, fps)

    read = VideoFile(video.data, LIMITS)
    frames = list(read.frames())
    tick = {"mp4": 1e-6, "webm": 1e-3, "gif": 1e-2}[encoding.format]  # what the container can say
    assert (video.frames, video.fps, video.width, video.height) == (25, fps, 64, 48)
    assert numbers(frame.pixels for frame in frames) == [n % 12 for n in range(25)]
    assert [frame.time_s for frame in frames] == pytest.approx([n / fps for n in range(25)], abs=tick)
    assert read.info.seconds == pytest.approx(25 / fps, abs=tick)
    if encoding.format == "mp4":
        assert (read.info.fps, read.info.frames, read.info.is_constant) == (fps, 25, True)
        with av.open(io.BytesIO(video.data), "r") as container:
            stream = container.streams.video[0]
            assert stream.duration is not None
            assert stream.time_base is not None
            assert stream.duration * stream.time_base == 25 / fps
        ticks, duration = struct.unpack_from(">II", video.data, video.data.index(b"mvhd") + 16)
        assert Fraction(duration, ticks) == 25 / fps


@needs_ffprobe
def test_ffprobe_sees_the_same() -> None:
    stream = probed(written(counting(64, 48, 25), Encoding("mp4"), NTSC).data)["video"]

    assert (stream["codec_name"], stream["pix_fmt"], stream["nb_frames"]) == ("h264", "yuv420p", "25")
    assert (stream["avg_frame_rate"], stream["r_frame_rate"]) == ("24000/1001", "24000/1001")
    assert Fraction(stream["duration_ts"]) * Fraction(stream["time_base"]) == 25 / NTSC
    colours = [stream[key] for key in ("color_range", "color_space", "color_transfer", "color_primaries")]
    assert colours == ["tv", "bt709", "bt709", "bt709"]


def test_the_index_of_an_mp4_comes_first() -> None:
    data = written(counting(64, 48, 5), Encoding("mp4")).data

    assert data.index(b"moov") < data.index(b"mdat")


@pytest.mark.parametrize("encoding", ENCODINGS, ids=str)
def test_colours_come_back(encoding: Encoding) -> None:
    video = written([plain(64, 48)] * 3, encoding)

    for frame in VideoFile(video.data, LIMITS).frames():
        assert np.allclose(frame.pixels, RED, atol=4)


@pytest.mark.parametrize(("width", "height"), [(1, 1), (63, 47), (2, 3), (201, 64)])
@pytest.mark.parametrize("encoding", ENCODINGS, ids=str)
def test_any_size(encoding: Encoding, width: int, height: int) -> None:
    video = written(counting(width, height, 3), encoding)

    shapes = {frame.pixels.shape for frame in VideoFile(video.data, LIMITS).frames()}
    assert shapes == {(video.height, video.width, 3)}
    if encoding.codec is None and encoding.format == "mp4":
        assert (video.width, video.height) == (width + width % 2, height + height % 2)
    elif encoding.codec == "av1":
        assert (video.width, video.height) == (max(4, width), max(4, height))
    else:
        assert (video.width, video.height) == (width, height)


def test_an_odd_size_repeats_its_last_row_and_column() -> None:
    picture = plain(63, 47, (20, 20, 20))
    picture[-1], picture[:, -1] = RED, RED

    shown = next(VideoFile(written([picture], Encoding("mp4", crf=0)).data, LIMITS).frames()).pixels

    assert np.allclose(shown[-1], RED, atol=30)
    assert np.allclose(shown[:, -1], RED, atol=30)


def test_the_hash_is_of_the_pictures_given() -> None:
    pictures = counting(33, 21, 3)

    one = written(pictures[:1], Encoding("mp4"))
    assert one.pixels_sha256 == pixels_sha256(Image.fromarray(pictures[0]))
    assert written(pictures, Encoding("mp4")).pixels_sha256 == written(pictures, Encoding("gif")).pixels_sha256
    assert written(pictures, Encoding("mp4")).pixels_sha256 != written(pictures[::-1], Encoding("mp4")).pixels_sha256


def test_a_frame_may_be_reused_after_it_was_written() -> None:
    buffer = plain(32, 32)
    with VideoWriter(32, 32, Fraction(24), Encoding("mp4")) as writer:
        for number in range(12):
            buffer[:] = number * 20
            writer.write(buffer)
        video = writer.finish()

    assert numbers(frame.pixels for frame in VideoFile(video.data, LIMITS).frames()) == list(range(12))


def test_frames_that_are_not_contiguous_are_written() -> None:
    wide = plain(64, 48)

    video = written([wide[:, ::2], wide[:, ::-2]], Encoding("mp4"))

    assert (video.width, video.frames) == (32, 2)


@pytest.mark.parametrize(
    "wrong", [np.zeros((32, 31, 3), np.uint8), np.zeros((32, 32), np.uint8), np.zeros((32, 32, 3), np.float32)]
)
def test_other_shapes_are_refused(wrong: Any) -> None:
    with VideoWriter(32, 32, Fraction(24), Encoding("mp4")) as writer:
        with pytest.raises(ValueError, match="a frame is uint8"):
            writer.write(wrong)
        writer.abort()


def test_a_video_without_frames_is_refused() -> None:
    with pytest.raises(ValueError, match="no frame"):
        VideoWriter(32, 32, Fraction(24), Encoding("mp4")).finish()


def test_nothing_is_written_after_the_end() -> None:
    writer = VideoWriter(32, 32, Fraction(24), Encoding("mp4"))
    writer.write(plain(32, 32))
    writer.finish()

    with pytest.raises(ValueError, match="finished"):
        writer.write(plain(32, 32))
    writer.abort()


def test_encoders_write_nothing_to_stderr() -> None:
    script = """
from fractions import Fraction
import numpy as np
from shared.media.video_writer import Encoding, VideoWriter
for encoding in (Encoding("mp4"), Encoding("mp4", "av1"), Encoding("webm"), Encoding("gif")):
    writer = VideoWriter(64, 48, Fraction(24), encoding)
    writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.finish()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=60)

    assert (done.returncode, done.stderr, done.stdout) == (0, b"", b"")
