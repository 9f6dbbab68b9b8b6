import io
import itertools
import re
import struct
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.reformatter import Colorspace
from PIL import Image

from shared.errors import InvalidInput, JobError, MediaTooLarge
from shared.media.frames import Pixels
from shared.media.video_file import VideoFile, VideoLimits
from tests.shared.media.clips import (
    LIMITS,
    RED,
    counting,
    damaged,
    numbers,
    patched,
    plain,
    referring_to,
    sound_only,
    video_of,
)


def limits(**changed: Any) -> VideoLimits:
    return replace(LIMITS, **changed)


def pictures_of(data: bytes) -> list[Pixels]:
    return [frame.pixels for frame in VideoFile(data, LIMITS).frames()]


def animation(image_format: str, colours: Sequence[tuple[int, ...]], ms: Sequence[int], mode: str = "RGB") -> bytes:
    frames = [Image.new(mode, (24, 16), colour) for colour in colours]
    file = io.BytesIO()
    options = {"lossless": True} if image_format == "WEBP" else {}
    frames[0].save(file, image_format, save_all=True, append_images=frames[1:], duration=list(ms), loop=0, **options)
    return file.getvalue()


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


@pytest.mark.parametrize(("width", "height"), [(1, 1), (63, 47), (2, 30), (31, 1)])
@pytest.mark.parametrize(("container", "codec"), [("webm", "libvpx-vp9"), ("mp4", "libx264"), ("gif", "gif")])
def test_any_size(width: int, height: int, container: str, codec: str) -> None:
    pix_fmt = {"libx264": "yuv444p", "gif": "rgb8"}.get(codec, "yuv420p")

    pictures = pictures_of(video_of([plain(width, height)] * 3, container, codec, pix_fmt))

    assert [picture.shape for picture in pictures] == [(height, width, 3)] * 3
    assert np.allclose(pictures[1], RED, atol=50 if codec == "gif" else 30)


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("space", [Colorspace.ITU601, Colorspace.ITU709])
@pytest.mark.parametrize(("width", "height"), [(320, 240), (1280, 720)])
def test_red_stays_red(width: int, height: int, space: Colorspace, full_range: bool) -> None:
    data = video_of([plain(width, height)] * 2, space=space, full_range=full_range)

    assert np.allclose(pictures_of(data)[0], RED, atol=4)


@pytest.mark.parametrize(
    ("width", "height", "space"), [(320, 240, Colorspace.ITU601), (1280, 720, Colorspace.ITU709)]
)
def test_red_stays_red_where_the_file_does_not_say_how(width: int, height: int, space: Colorspace) -> None:
    tagged = video_of([plain(width, height)] * 2, codec="mpeg4", space=space, options={"q": "2"})

    assert np.allclose(pictures_of(tagged)[0], RED, atol=6)


def test_grey_covers_black_to_white() -> None:
    shades = np.repeat(np.array([0, 80, 160, 255], np.uint8), 16)[None, :, None]
    picture = np.broadcast_to(shades, (32, 64, 3)).copy()

    shown = pictures_of(video_of([picture] * 2, "matroska", "ffv1", "gray"))[0]

    assert np.allclose(shown, picture, atol=2)


@pytest.mark.parametrize(
    ("container", "codec", "pix_fmt"),
    [("mov", "png", "rgba"), ("mov", "qtrle", "argb"), ("webm", "libvpx-vp9", "yuva420p")],
)
def test_transparency_becomes_white(container: str, codec: str, pix_fmt: str) -> None:
    picture = np.zeros((48, 64, 4), np.uint8)
    picture[:, :32] = (*RED, 255)

    for shown in pictures_of(video_of([picture] * 3, container, codec, pix_fmt)):
        assert np.allclose(shown[24, 16], RED, atol=8)
        assert np.allclose(shown[24, 48], 255, atol=8)


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


@pytest.mark.parametrize("image_format", ["WEBP", "PNG"])
def test_animated_pictures_are_videos(image_format: str) -> None:
    colours = [(220, 0, 0), (0, 220, 0), (0, 0, 220)]
    video = VideoFile(animation(image_format, colours, [100, 200, 300]), LIMITS)

    frames = list(video.frames())

    assert [tuple(frame.pixels[8, 12]) for frame in frames] == colours
    assert [frame.time_s for frame in frames] == pytest.approx([0.0, 0.1, 0.3])
    assert (video.info.frames, video.info.fps, video.info.is_constant) == (3, Fraction(5), False)
    assert video.info.seconds == pytest.approx(0.6)


def test_animated_pictures_stand_on_white() -> None:
    data = animation("WEBP", [(0, 0, 0, 0), (0, 0, 220, 255)], [100, 100], mode="RGBA")

    assert [tuple(picture[8, 12]) for picture in pictures_of(data)] == [(255, 255, 255), (0, 0, 220)]


@pytest.mark.parametrize("image_format", ["WEBP", "PNG"])
def test_a_cut_animation_gives_the_frames_that_it_has(image_format: str) -> None:
    frames = [Image.fromarray(np.random.default_rng(n).integers(0, 256, (64, 64, 3), np.uint8)) for n in range(6)]
    file = io.BytesIO()
    frames[0].save(file, image_format, save_all=True, append_images=frames[1:], duration=100)

    try:
        video = VideoFile(file.getvalue()[: len(file.getvalue()) // 2], LIMITS)
        read = len(list(video.frames()))
    except InvalidInput:
        assert image_format == "WEBP"  # libwebp reads whole files
        return
    assert 1 <= read < 6
    assert video.truncated


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP"])
def test_a_picture_is_a_video_of_one_frame(image_format: str) -> None:
    file = io.BytesIO()
    Image.fromarray(plain(20, 10)).save(file, image_format)

    video = VideoFile(file.getvalue(), LIMITS)
    frames = list(video.frames())

    assert [(frame.pixels.shape, frame.time_s) for frame in frames] == [((10, 20, 3), 0.0)]
    assert np.allclose(frames[0].pixels, RED, atol=10)
    assert (video.info.frames, video.info.seconds, video.info.fps) == (1, None, Fraction(1))


def test_a_video_of_one_frame() -> None:
    assert len(pictures_of(video_of([plain(32, 32)]))) == 1


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


def noisy(frames: int) -> list[Pixels]:
    """Pictures of which each takes kilobytes."""
    random = np.random.default_rng(5)
    return [random.integers(0, 256, (64, 96, 3), np.uint8) for _ in range(frames)]


def with_index_first(frames: list[Pixels], tmp_path: Path) -> bytes:
    path = tmp_path / "first.mp4"
    with (
        av.open(io.BytesIO(video_of(frames)), "r") as source,
        av.open(str(path), "w", options={"movflags": "+faststart"}) as output,
    ):
        stream = output.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                output.mux(packet)
    return path.read_bytes()


def test_a_cut_mp4_gives_the_frames_that_it_has(tmp_path: Path) -> None:
    whole = with_index_first(noisy(20), tmp_path)
    assert whole.index(b"moov") < whole.index(b"mdat")

    video = VideoFile(whole[: len(whole) // 2], LIMITS)
    read = len(list(video.frames()))

    assert 8 <= read <= 11
    assert video.truncated


def test_a_cut_between_two_frames_is_noticed(tmp_path: Path) -> None:
    whole = with_index_first(noisy(20), tmp_path)
    with av.open(io.BytesIO(whole), "r") as container:
        tenth = container.streams.video[0].index_entries[10].pos

    video = VideoFile(whole[:tenth], LIMITS)

    assert len(list(video.frames())) == 10
    assert video.truncated


def test_a_cut_mp4_without_its_index_is_refused() -> None:
    whole = video_of(noisy(10))

    with pytest.raises(InvalidInput, match=r"before its index \(moov\)"):
        VideoFile(whole[: len(whole) // 2], LIMITS)


@pytest.mark.parametrize(
    ("container", "codec", "pix_fmt"),
    [("webm", "libvpx-vp9", "yuv420p"), ("avi", "mpeg4", "yuv420p"), ("gif", "gif", "rgb8")],
)
def test_other_cut_files_give_the_frames_that_they_have(container: str, codec: str, pix_fmt: str) -> None:
    whole = video_of(noisy(20), container, codec, pix_fmt)

    video = VideoFile(whole[: len(whole) // 2], LIMITS)

    assert 3 <= len(list(video.frames())) <= 15
    assert video.truncated


@pytest.mark.parametrize(
    ("container", "codec", "n_bytes"),
    [("mp4", "libx264", 200), ("mp4", "mpeg4", 200), ("webm", "libvpx-vp9", 30_000), ("avi", "mpeg4", 200)],
)
def test_damage_in_the_middle_is_reported(container: str, codec: str, n_bytes: int) -> None:
    video = VideoFile(damaged(video_of(noisy(60), container, codec), 0.5, n_bytes), LIMITS)

    assert len(list(video.frames())) >= 20
    assert video.truncated


def test_a_long_last_frame_is_no_damage() -> None:
    video = VideoFile(video_of(counting(32, 32, 4), pts=[0, 1, 2, 200]), LIMITS)

    assert len(list(video.frames())) == 4
    assert not video.truncated


def test_damaged_files_end_in_an_error_of_ours_or_in_frames() -> None:
    random = np.random.default_rng(11)
    wholes = [
        *(video_of(counting(32, 32, 4)), video_of(counting(32, 32, 4), "webm", "libvpx-vp9")),
        *(video_of(counting(32, 32, 4), "avi", "mpeg4"), video_of(counting(32, 32, 4), "gif", "gif", "rgb8")),
        animation("WEBP", [(220, 0, 0), (0, 220, 0)], [100, 100]),
        animation("PNG", [(220, 0, 0), (0, 220, 0)], [100, 100]),
    ]
    for whole in wholes:
        for _ in range(60):
            data = bytearray(whole)
            for at in random.integers(0, len(data), 6):
                data[at] = random.integers(0, 256)
            try:
                assert all(frame.pixels.ndim == 3 for frame in VideoFile(bytes(data), LIMITS).frames())
            except JobError:
                continue


def test_threads_decode_beside_each_other() -> None:
    data = damaged(video_of(noisy(20)), 0.5)

    with ThreadPoolExecutor(4) as pool:
        counts = set(pool.map(lambda _: len(pictures_of(data)), range(12)))

    assert len(counts) == 1
    assert threading.active_count() < 50


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
