import io
import threading
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter

from shared.errors import Cancelled, InvalidInput
from shared.media.foretell import TRIED, image_bytes, video_bytes
from shared.media.frames import Pixels
from shared.media.image import encode_image
from shared.media.video import VideoParams
from shared.media.video_file import VideoFile, VideoLimits
from shared.media.video_writer import Encoding, VideoWriter
from shared.schemas import ImageFormat

LIMITS = VideoLimits(10**6, 1000, 100)
SURELY = 2  # how many times the limit is refused


def noise(frames: int, shades: int = 200, side: int = 96) -> list[Pixels]:
    random = np.random.default_rng(1)
    return [random.integers(0, shades + 1, (side, side, 3), np.uint8) for _ in range(frames)]


def moving(frames: int, step: int, height: int = 360, width: int = 640) -> list[Pixels]:
    """A rough surface that passes by, so many pixels a frame."""
    wide = noise(1, 255, width + step * frames)[0][:height]
    surface = np.asarray(Image.fromarray(wide).filter(ImageFilter.GaussianBlur(1.5)))
    return [surface[:, step * number : step * number + width] for number in range(frames)]


def encoded(pictures: Iterable[Pixels], fps: Fraction, encoding: Encoding, scale: float = 1) -> bytes:
    images = (Image.fromarray(np.ascontiguousarray(picture)) for picture in pictures)
    large = [
        image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
        for image in images
    ]
    writer = VideoWriter(large[0].width, large[0].height, fps, encoding)
    for image in large:
        writer.write(np.asarray(image))
    return writer.finish().data


def film(pictures: list[Pixels], fps: int = 24) -> VideoFile:
    return VideoFile(encoded(pictures, Fraction(fps), Encoding("mp4", crf=10)), LIMITS)


def share_foretold(video: VideoFile, scale: float = 1, fps: int | None = None, **params: Any) -> float:
    """What is foretold, of what the video takes when its frames are enlarged by bicubic and shown at a lower rate."""
    wanted, rate = VideoParams(**params), Fraction(fps or video.info.fps)
    kept = [frame.pixels for frame in video.frames()][:: round(video.info.fps / rate)]
    return video_bytes(video, scale, wanted, fps=rate) / len(encoded(kept, rate, wanted.encoding(), scale))


@pytest.mark.parametrize(
    "params", [{"crf": 10}, {"crf": 30}, {"video_format": "webm"}, {"video_format": "gif"}], ids=str
)
def test_foretells_the_size_of_the_whole_from_its_first_frames(params: dict[str, Any]) -> None:
    assert 0.7 < share_foretold(film(noise(100)), **params) < 1.2


def test_a_video_that_begins_rough_and_goes_on_black_is_not_taken_for_rough() -> None:
    black = np.zeros((96, 96, 3), np.uint8)
    assert 0.5 < share_foretold(film([*noise(TRIED), *[black] * 300])) < 1.2


def test_an_animation_that_begins_rough_and_goes_on_plain_is_not_taken_for_rough() -> None:
    plain = [np.full((96, 96, 3), number, np.uint8) for number in range(100)]
    first, *others = [Image.fromarray(picture) for picture in [*noise(TRIED), *plain]]
    file = io.BytesIO()
    first.save(file, "WEBP", save_all=True, append_images=others, duration=40)
    assert 0.5 < share_foretold(VideoFile(file.getvalue(), LIMITS)) < 1.2


def test_frames_that_are_left_out_take_nothing() -> None:
    assert 0.5 < share_foretold(film(noise(180), 60), fps=1) < 1.2
    assert 0.5 < share_foretold(film(noise(60), 60), fps=20, video_format="gif") < 1.2


@pytest.mark.parametrize("step", [6, 20])
def test_what_moves_by_is_not_taken_for_new_at_the_edges_of_the_parts_looked_at(step: int) -> None:
    assert 0.4 < share_foretold(film(moving(TRIED + 2, step)), scale=4) < 1.2


def test_frames_of_which_parts_are_looked_at_take_what_the_whole_does() -> None:
    assert 0.7 < share_foretold(film(noise(14, 255, 400)), scale=4) < 1.2


def test_a_larger_picture_takes_more() -> None:
    video = film(noise(40))
    assert video_bytes(video, 2, VideoParams()) > 1.5 * video_bytes(video, 1, VideoParams())


@pytest.mark.parametrize("frames", [1, 3])
def test_a_short_video_is_encoded_whole(frames: int) -> None:
    assert 0.8 < share_foretold(film(noise(frames))) <= 1


def test_the_rate_that_counts_is_that_of_the_result() -> None:
    video = film(noise(3), 60)
    assert video_bytes(video, 1, VideoParams(video_format="gif"), fps=Fraction(25)) > 0
    with pytest.raises(InvalidInput, match="60 frames a second do not go into gif"):
        video_bytes(video, 1, VideoParams(video_format="gif"))


def test_sizes_that_no_encoder_takes_are_refused() -> None:
    with pytest.raises(InvalidInput, match="frames of 19200 x 19200 do not go into h264"):
        video_bytes(film(noise(1)), 200, VideoParams())


class Watched:
    """A video that counts the frames that were asked for."""

    def __init__(self, video: VideoFile) -> None:
        self.info, self.packet_bytes, self.read = video.info, video.packet_bytes, 0
        self._video = video

    def frames(self) -> Any:
        for frame in self._video.frames():
            self.read += 1
            yield frame


def test_a_stop_lands_at_the_next_frame() -> None:
    watched: Any = Watched(film(noise(20)))

    def check() -> None:
        if watched.read == 3:
            raise Cancelled("asked")

    with pytest.raises(Cancelled):
        video_bytes(watched, 1, VideoParams(), check=check)
    assert watched.read == 3


def test_one_job_at_a_time_is_foretold_and_those_that_wait_can_be_stopped() -> None:
    video, began, end = film(noise(3)), threading.Event(), threading.Event()

    def hold() -> None:
        began.set()
        end.wait()

    def stop() -> None:
        raise Cancelled("asked")

    first = threading.Thread(target=video_bytes, args=(video, 1, VideoParams()), kwargs={"check": hold})
    first.start()
    began.wait()
    with pytest.raises(Cancelled):
        image_bytes(Image.new("RGB", (8, 8)), 1, "png", check=stop)
    end.set()
    first.join()
    assert image_bytes(Image.new("RGB", (8, 8)), 1, "png", check=stop) > 0


@pytest.mark.parametrize("image_format", ["png", "jpeg", "webp"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("side", [40, 400])
def test_an_image_takes_what_its_parts_take(image_format: ImageFormat, mode: str, side: int) -> None:
    image = Image.fromarray(noise(1, 255, side)[0]).convert(mode)
    if mode == "RGBA":
        image.putalpha(image.getchannel("G"))
    whole = encode_image(image.resize((4 * side, 4 * side), Image.Resampling.BICUBIC), image_format)
    assert 0.8 < image_bytes(image, 4, image_format) / len(whole) < 1.2


def test_what_lies_at_one_place_of_an_image_is_not_taken_for_all_of_it() -> None:
    image = Image.new("RGB", (1200, 1200))
    image.paste(Image.fromarray(noise(1, 255, 400)[0]), (400, 400))
    whole = encode_image(image.resize((2400, 2400), Image.Resampling.BICUBIC), "png")
    assert image_bytes(image, 2, "png") / len(whole) < SURELY
