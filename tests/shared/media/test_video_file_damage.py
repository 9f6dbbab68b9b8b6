"""Videos that end too soon or have noise in them."""

import io
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import pytest

from shared.errors import InvalidInput, JobError
from shared.media.frames import Pixels
from shared.media.video_file import VideoFile
from tests.shared.media.clips import LIMITS, animation, counting, damaged, pictures_of, video_of


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
    before = threading.active_count()

    with ThreadPoolExecutor(4) as pool:
        counts = set(pool.map(lambda _: len(pictures_of(data)), range(12)))

    assert len(counts) == 1
    assert threading.active_count() < before + 50
