"""Videos that are refused: too large, too long, none at all, or naming other files."""

import re
import struct
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from shared.errors import InvalidInput, MediaTooLarge
from shared.media.video_file import VideoFile
from tests.shared.media.clips import (
    LIMITS,
    RED,
    animation,
    counting,
    limits,
    patched,
    pictures_of,
    plain,
    referring_to,
    sound_only,
    video_of,
)


@pytest.mark.parametrize(
    ("field", "limit", "named"),
    [
        ("max_pixels", 64 * 48 - 1, r"64 x 48 pixels; the limit is 3,071 \(MAX_IMAGE_PIXELS\)"),
        ("max_frames", 23, r"24 frames or more; the limit is 23 \(MAX_VIDEO_FRAMES\)"),
        ("max_seconds", 0.9, r"1 seconds or more; the limit is 0.9 \(MAX_VIDEO_SECONDS\)"),
    ],
)
def test_limits_name_what_sets_them(field: str, limit: float, named: str) -> None:
    data = video_of(counting(64, 48, 24))

    with pytest.raises(MediaTooLarge, match=named):
        VideoFile(data, limits(**{field: limit}))
    VideoFile(data, limits(**{field: limit + 1}))


def test_ten_hours_are_refused_by_the_header() -> None:
    data = video_of(counting(32, 32, 2), fps=Fraction(1), pts=[0, 36_000])

    with pytest.raises(MediaTooLarge, match="MAX_VIDEO_SECONDS"):
        VideoFile(data, LIMITS)


def test_nothing_is_decoded_that_the_header_forbids() -> None:
    frames_gone = video_of([plain(640, 480)] * 3, "matroska", "libx264")
    whole = bytearray(frames_gone)
    whole[len(whole) // 2 :] = bytes(len(whole) - len(whole) // 2)

    with pytest.raises(MediaTooLarge, match="640 x 480"):
        VideoFile(bytes(whole), limits(max_pixels=10_000))


@pytest.mark.parametrize("image_format", ["WEBP", "PNG"])
def test_animations_have_limits_too(image_format: str) -> None:
    data = animation(image_format, [(n * 9, 0, 0) for n in range(9)], [1_000] * 9)

    for field, limit in (("max_pixels", 100), ("max_frames", 8), ("max_seconds", 8.5)):
        with pytest.raises(MediaTooLarge):
            VideoFile(data, limits(**{field: limit}))


def test_a_header_that_says_too_little_is_caught_by_its_packets() -> None:
    whole = video_of(counting(32, 32, 20), "webm", "libvpx-vp9")
    at = whole.index(b"\x44\x89\x88") + 3  # Duration, a float of 8 bytes
    short = whole[:at] + struct.pack(">d", 100.0) + whole[at + 8 :]
    short = re.sub(rb"00:00:00\.8\d{8}", b"00:00:00.100000000", short)

    for too_low in (limits(max_frames=10), limits(max_seconds=0.5)):
        with pytest.raises(MediaTooLarge):
            VideoFile(short, too_low)


def test_frames_larger_than_the_header_says_are_refused() -> None:
    large = patched(video_of([plain(640, 480)] * 2), b"avc1", 24, struct.pack(">HH", 16, 16))

    for limit in (20_000, 200_000):  # within what the decoder itself is told, and beyond
        with pytest.raises((MediaTooLarge, InvalidInput)):
            VideoFile(large, limits(max_pixels=limit))


@pytest.mark.parametrize(
    "data", [b"hello, I am a text", b"\x00" * 500, b"WEBVTT\n\n00:00.000 --> 00:01.000\nhello", b"%PDF-1.7", b"RIFF"]
)
def test_rejects_what_is_no_video(data: bytes) -> None:
    with pytest.raises(InvalidInput, match="send MP4, MOV, WEBM, MKV, AVI, GIF"):
        VideoFile(data, LIMITS)


def test_rejects_nothing() -> None:
    with pytest.raises(InvalidInput, match="empty"):
        VideoFile(b"", LIMITS)


def test_rejects_sound_alone() -> None:
    with pytest.raises(InvalidInput, match="no video stream"):
        VideoFile(sound_only(), LIMITS)


def test_rejects_codecs_that_are_not_on_the_list() -> None:
    with pytest.raises(InvalidInput, match=r"codec is not read; send H\.264"):
        VideoFile(video_of([plain(32, 32)] * 2, "avi", "utvideo"), LIMITS)


def test_rejects_a_video_without_frames() -> None:
    whole = video_of(counting(32, 32, 3), "webm", "libvpx-vp9")
    empty = whole[: whole.index(b"\x1f\x43\xb6\x75")]  # the first cluster

    with pytest.raises(InvalidInput, match="save it anew"):
        VideoFile(empty, LIMITS)


@pytest.mark.parametrize("script", ["m3u8", "concat", "sdp", "mpd"])
def test_bytes_cannot_name_other_files(script: str, tmp_path: Path) -> None:
    other = tmp_path / "other.mp4"
    other.write_bytes(video_of(counting(32, 32, 3)))
    texts = {
        "m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile://{other}\n#EXT-X-ENDLIST\n",
        "concat": f"ffconcat version 1.0\nfile '{other}'\n",
        "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
        "mpd": f'<?xml version="1.0"?><MPD><Period><BaseURL>{other}</BaseURL></Period></MPD>',
    }

    with pytest.raises(InvalidInput):
        VideoFile(texts[script].encode(), LIMITS)


def test_an_mp4_cannot_name_the_file_of_its_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    own = video_of([plain(32, 32)] * 3)
    (tmp_path / "other.mp4").write_bytes(video_of([plain(32, 32, (20, 20, 220))] * 3))

    try:
        shown = pictures_of(referring_to(b"other.mp4", own))
    except InvalidInput:
        return
    assert all(np.allclose(picture, RED, atol=8) for picture in shown)
