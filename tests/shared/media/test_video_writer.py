import io
import json
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from shared.errors import Internal, InvalidInput, ResultTooLarge
from shared.media.frames import Pixels
from shared.media.image import pixels_sha256
from shared.media.video_file import VideoFile
from shared.media.video_writer import EncodedVideo, Encoding, VideoWriter
from tests.shared.media.clips import LIMITS, RED, counting, numbers, plain, video_of

NTSC = Fraction(24000, 1001)
ENCODINGS = [Encoding("mp4"), Encoding("mp4", "av1"), Encoding("webm"), Encoding("webm", "av1"), Encoding("gif")]
Streams = dict[str, dict[str, Any]]

needs_ffprobe = pytest.mark.skipif(not shutil.which("ffprobe"), reason="ffprobe is not installed; PyAV looks instead")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Temporary files go here, and none of them stays; nor does a thread."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield tmp_path
    assert list(tmp_path.iterdir()) == []
    assert [thread.name for thread in threading.enumerate() if thread.name == "video-encoder"] == []


def written(
    pictures: list[Pixels], encoding: Encoding, fps: Fraction = Fraction(24), audio: bytes | None = None
) -> EncodedVideo:
    height, width, _ = pictures[0].shape
    writer = VideoWriter(width, height, fps, encoding, audio=VideoFile(audio, LIMITS) if audio else None)
    for picture in pictures:
        writer.write(picture)
    return writer.finish()


def probed(data: bytes) -> Streams:
    done = subprocess.run(
        ["ffprobe", "-v", "error", "-show_streams", "-show_packets", "-of", "json", "-"],
        input=data,
        capture_output=True,
        timeout=30,
    )
    facts = json.loads(done.stdout)
    for stream in facts["streams"]:
        stream["packets"] = [p for p in facts["packets"] if p["stream_index"] == stream["index"]]
    return {stream["codec_type"]: stream for stream in facts["streams"]}


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


def test_a_gif_keeps_its_shades() -> None:
    ramp = np.zeros((64, 256, 3), np.uint8)
    ramp[..., 0], ramp[..., 1] = np.arange(256), np.arange(64)[:, None] * 4

    frames = [frame.pixels for frame in VideoFile(written([ramp] * 3, Encoding("gif")).data, LIMITS).frames()]

    def blurred(picture: Pixels) -> Pixels:
        return np.asarray(Image.fromarray(picture).resize((32, 8), Image.Resampling.BOX))

    assert np.abs(blurred(frames[0]).astype(int) - blurred(ramp)).mean() < 3


def test_what_rests_in_a_gif_does_not_flicker() -> None:
    ramps = np.zeros((4, 64, 256, 3), np.uint8)
    ramps[..., 0], ramps[..., 1] = np.arange(256), np.arange(64)[:, None] * 4
    for number in range(4):
        ramps[number, 56:] += np.uint8(3 * number)

    frames = [f.pixels for f in VideoFile(written(list(ramps), Encoding("gif")).data, LIMITS).frames()]

    assert not np.array_equal(frames[0], frames[3])
    assert all(np.array_equal(frame[:56], frames[0][:56]) for frame in frames)


def test_a_gif_gets_a_new_palette_with_a_new_scene() -> None:
    red, blue = plain(64, 48, (200, 10, 10)), plain(64, 48, (10, 10, 200))

    frames = [f.pixels for f in VideoFile(written([red, red, blue], Encoding("gif")).data, LIMITS).frames()]

    assert np.allclose(frames[2], blue, atol=4)


def test_gifs_loop() -> None:
    assert b"NETSCAPE2.0\x03\x01\x00\x00" in written([plain(8, 8)] * 2, Encoding("gif")).data


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


def test_an_exception_leaves_nothing_behind() -> None:
    with (
        pytest.raises(KeyError),
        VideoWriter(32, 32, Fraction(24), Encoding("mp4"), audio=VideoFile(with_sound(), LIMITS)) as writer,
    ):
        for picture in counting(32, 32, 10):
            writer.write(picture)
        raise KeyError


@pytest.mark.parametrize("encoding", [Encoding("mp4"), Encoding("webm"), Encoding("gif")], ids=str)
def test_a_file_that_grows_too_large_ends_the_writing(encoding: Encoding) -> None:
    random = np.random.default_rng(2)
    writer = VideoWriter(128, 128, Fraction(24), encoding, most_bytes=100_000)

    with pytest.raises(ResultTooLarge, match=r"larger than 100 kB after .* ask for fewer frames"):
        for _ in range(400):
            writer.write(random.integers(0, 256, (128, 128, 3), np.uint8))
    with pytest.raises(ResultTooLarge):
        writer.finish()


def test_a_file_may_be_as_large_as_its_limit() -> None:
    pictures = counting(64, 48, 10)
    size = len(written(pictures, Encoding("mp4")).data)

    for most, fits in ((size, True), (size - 1, False)):
        writer = VideoWriter(64, 48, Fraction(24), Encoding("mp4"), most_bytes=most)
        for picture in pictures:
            writer.write(picture)
        if fits:
            assert len(writer.finish().data) == size
        else:
            with pytest.raises(ResultTooLarge):
                writer.finish()


def test_a_missing_temporary_folder_is_our_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))

    with pytest.raises(Internal, match="temporary folder") as caught:
        VideoWriter(32, 32, Fraction(24), Encoding("mp4"))
    assert isinstance(caught.value.__cause__, OSError)


def test_a_full_disk_is_our_fault(tmp_path: Path) -> None:
    script = f"""
import resource, signal, sys, tempfile
from fractions import Fraction
import numpy as np
from shared.errors import Internal
from shared.media.video_writer import Encoding, VideoWriter
tempfile.tempdir = {str(tmp_path)!r}
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
random = np.random.default_rng(1)
writer = VideoWriter(128, 128, Fraction(24), Encoding("mp4", preset="ultrafast"))
try:
    for _ in range(200):
        writer.write(random.integers(0, 256, (128, 128, 3), np.uint8))
    writer.finish()
except Internal as exc:
    print(isinstance(exc.__cause__, OSError), exc.message)
writer.abort()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("True the video cannot be written")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("encoding", [Encoding("mp4"), Encoding("webm"), Encoding("gif")], ids=str)
def test_a_worker_that_is_killed_leaves_nothing_behind(folder: Path, encoding: Encoding) -> None:
    script = f"""
import os, signal, tempfile
from fractions import Fraction
import numpy as np
from shared.media.video_writer import Encoding, VideoWriter
tempfile.tempdir = {str(folder)!r}
writer = VideoWriter(64, 48, Fraction(24), {encoding!r})
for _ in range(40):
    writer.write(np.zeros((48, 64, 3), np.uint8))
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=60)

    assert (done.returncode, done.stderr) == (-9, b"")
    assert list(folder.iterdir()) == []


SIZES: list[tuple[str, str | None, int, int]]
SIZES = [("mp4", "h264", 16_386, 64), ("mp4", "h264", 20_000, 64), ("mp4", "h264", 2, 16_386)]
SIZES += [
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


def test_an_encoder_that_fails_is_not_taken_for_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Encoding, "check_size", lambda *size: None)
    with pytest.raises(av.FFmpegError):
        VideoWriter(20_000, 64, Fraction(24), Encoding("mp4"))


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


def with_sound(container: str = "mp4", codec: str = "libx264", audio: str = "aac", **more: Any) -> bytes:
    return video_of(counting(64, 48, 24), container, codec, audio=audio, **more)


SOURCES = [
    ("mp4", "libx264", "aac", "aac", "opus"),
    ("mp4", "libx264", "libmp3lame", "mp3", "opus"),
    ("webm", "libvpx-vp9", "libopus", "opus", "opus"),
    ("matroska", "libx264", "flac", "aac", "opus"),
    ("mov", "libx264", "pcm_s16le", "aac", "opus"),
]


@pytest.mark.parametrize(("container", "codec", "audio", "in_mp4", "in_webm"), SOURCES)
@pytest.mark.parametrize("start_s", [0.0, 0.25])
def test_the_sound_comes_along(
    container: str, codec: str, audio: str, in_mp4: str, in_webm: str, start_s: float
) -> None:
    source = with_sound(container, codec, audio, audio_s=3.0, audio_start_s=start_s)

    for encoding, expected in ((Encoding("mp4"), in_mp4), (Encoding("webm"), in_webm)):
        video = written(counting(64, 48, 24), encoding, audio=source)

        assert VideoFile(video.data, LIMITS).info.has_audio
        with av.open(io.BytesIO(video.data), "r") as made:
            stream = made.streams.audio[0]
            assert stream.codec_context.codec.canonical_name == expected
            frames = list(made.decode(stream))
        first, last = frames[0], frames[-1]
        assert first.time == pytest.approx(start_s, abs=0.04)
        assert last.time is not None
        assert last.time + last.samples / last.sample_rate == pytest.approx(1.0, abs=1 / 24)
        loudest = max(float(np.abs(frame.to_ndarray().astype(float)).max()) for frame in frames)
        assert loudest > (0.1 if "flt" in first.format.name else 3_000)


@needs_ffprobe
@pytest.mark.parametrize("encoding", [Encoding("mp4"), Encoding("webm")], ids=str)
def test_sound_and_pictures_are_interleaved(encoding: Encoding) -> None:
    source = with_sound(audio_s=3.0)

    streams = probed(written(counting(64, 48, 24), encoding, audio=source).data)

    order = sorted((int(p["pos"]), kind) for kind in ("video", "audio") for p in streams[kind]["packets"])
    kinds = [kind for _, kind in order]
    assert sum(before != after for before, after in pairwise(kinds)) >= 20
    ends = {k: max(float(p["pts_time"]) + float(p["duration_time"]) for p in streams[k]["packets"]) for k in streams}
    assert ends["audio"] == pytest.approx(ends["video"], abs=1 / 24)


def test_short_sound_ends_before_the_pictures() -> None:
    video = written(counting(64, 48, 24), Encoding("mp4"), audio=with_sound(audio_s=0.3))

    assert VideoFile(video.data, LIMITS).info.seconds == pytest.approx(1.0)
    with av.open(io.BytesIO(video.data), "r") as made:
        assert sum(frame.samples for frame in made.decode(audio=0)) == pytest.approx(0.3 * 48_000, abs=1_200)


@pytest.mark.parametrize("audio", [None, "aac"])
def test_a_gif_and_a_silent_source_have_no_sound(audio: str | None) -> None:
    source = video_of(counting(64, 48, 24), audio=audio)

    video = written([plain(64, 48)] * 3, Encoding("gif" if audio else "mp4"), audio=source)

    assert not VideoFile(video.data, LIMITS).info.has_audio


def test_an_animation_has_no_sound() -> None:
    file = io.BytesIO()
    Image.fromarray(plain(8, 8)).save(file, "PNG")

    assert not VideoFile(written([plain(8, 8)], Encoding("mp4"), audio=file.getvalue()).data, LIMITS).info.has_audio


def test_damaged_sound_does_not_end_the_video() -> None:
    source = with_sound("avi", "mpeg4", "libmp3lame", audio_s=2.0)
    cut = source[: len(source) * 2 // 3]

    assert written([plain(64, 48)] * 30, Encoding("mp4"), audio=cut).frames == 30
    assert written([plain(64, 48)] * 30, Encoding("webm"), audio=cut).frames == 30


PEAK = """
import resource, sys
from fractions import Fraction
import numpy as np
from shared.media.video_file import VideoFile, VideoLimits
from shared.media.video_writer import Encoding, VideoWriter
limits, quick, frames = VideoLimits(4_000_000, 1_000, 100), Encoding("mp4", preset="ultrafast"), int(sys.argv[1])
picture = np.zeros((1080, 1920, 3), np.uint8)
writer = VideoWriter(1920, 1080, Fraction(24), quick)
for number in range(frames):
    picture[:, number * 4 : number * 4 + 300] = number % 250
    writer.write(picture)
data = writer.finish().data
writer = VideoWriter(1920, 1080, Fraction(24), quick)
for frame in VideoFile(data, limits).frames():
    writer.write(frame.pixels)
assert writer.finish().frames == frames
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def test_memory_does_not_grow_with_the_length() -> None:
    def peak_mb(frames: int) -> int:
        done = subprocess.run([sys.executable, "-c", PEAK, str(frames)], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return int(done.stdout)

    assert peak_mb(240) - peak_mb(24) < 50
