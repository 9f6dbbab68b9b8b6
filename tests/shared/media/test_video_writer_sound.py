"""The sound that a written video takes over from another one."""

import io
from itertools import pairwise

import av
import numpy as np
import pytest
from PIL import Image

from shared.media.video_file import VideoFile
from shared.media.video_writer import Encoding
from tests.shared.media.clips import LIMITS, counting, plain, video_of
from tests.shared.media.writing import needs_ffprobe, probed, with_sound, written

pytestmark = pytest.mark.usefixtures("folder")

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
