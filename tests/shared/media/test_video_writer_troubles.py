"""Writing that fails, grows too large or is ended, and what stays behind: nothing."""

import subprocess
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from shared.errors import Internal, ResultTooLarge
from shared.media.video_file import VideoFile
from shared.media.video_writer import Encoding, VideoWriter
from tests.shared.media.clips import LIMITS, counting
from tests.shared.media.writing import with_sound, written

pytestmark = pytest.mark.usefixtures("folder")


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


def test_an_encoder_that_fails_is_not_taken_for_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Encoding, "check_size", lambda *size: None)
    with pytest.raises(av.FFmpegError):
        VideoWriter(20_000, 64, Fraction(24), Encoding("mp4"))


PEAK = """
import resource
from fractions import Fraction
import numpy as np
from shared.media.video_file import VideoFile, VideoLimits
from shared.media.video_writer import Encoding, VideoWriter
limits, quick = VideoLimits(4_000_000, 1_000, 100), Encoding("mp4", preset="ultrafast")
for frames in (24, 96):
    picture = np.zeros((1080, 1920, 3), np.uint8)
    writer = VideoWriter(1920, 1080, Fraction(24), quick)
    for number in range(frames):
        picture[:, number * 10 : number * 10 + 300] = number % 250
        writer.write(picture)
    data = writer.finish().data
    writer = VideoWriter(1920, 1080, Fraction(24), quick)
    for frame in VideoFile(data, limits).frames():
        writer.write(frame.pixels)
    assert writer.finish().frames == frames
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def test_memory_does_not_grow_with_the_length() -> None:
    """Nor with a second video; 72 more frames of 6 MB would be seen."""
    done = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    after_short_mb, after_long_mb = map(int, done.stdout.split())
    assert after_long_mb - after_short_mb < 50
