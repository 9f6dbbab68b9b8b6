"""The colours and sizes of decoded frames, and pictures that are read as videos."""

import io
from fractions import Fraction

import numpy as np
import pytest
from av.video.reformatter import Colorspace
from PIL import Image

from shared.errors import InvalidInput
from shared.media.video_file import VideoFile
from tests.shared.media.clips import LIMITS, RED, animation, pictures_of, plain, video_of


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
