"""Pictures brought to the shape that a model draws: never squeezed, cropped or between bars that can be cut away."""

import numpy as np
import pytest
from PIL import Image

from shared.media.framing import framed

SIZES = [(64, 64), (640, 480), (480, 640), (2000, 100), (33, 77), (1, 1), (10_000, 20)]


def thirds(width: int, height: int) -> Image.Image:
    """Red, green and blue beside each other; each a third of the width."""
    pixels = np.zeros((height, width, 3), np.uint8)
    for third in range(3):
        pixels[:, width * third // 3 : width * (third + 1) // 3, third] = 255
    return Image.fromarray(pixels)


@pytest.mark.parametrize("size", SIZES)
def test_a_cropped_picture_fills_the_shape(size: tuple[int, int]) -> None:
    fitted = framed(Image.new("RGB", size, "white"), 128, 72, "crop")
    assert fitted.image.size == fitted.size == (128, 72)
    assert fitted.image.getextrema() == ((255, 255),) * 3


def test_what_is_cropped_is_the_middle() -> None:
    fitted = framed(thirds(300, 100), 64, 64, "crop")
    assert np.asarray(fitted.image)[:, 4:60].reshape(-1, 3).mean(0) == pytest.approx([0, 255, 0], abs=1)


@pytest.mark.parametrize("size", SIZES)
def test_between_bars_the_whole_picture_is_seen_at_even_sides(size: tuple[int, int]) -> None:
    fitted = framed(Image.new("RGB", size, "white"), 128, 72, "letterbox")
    assert fitted.image.size == (128, 72)
    width, height = fitted.size
    assert width % 2 == height % 2 == 0
    assert (width, height) == (128, 72) or width == 128 or height == 72
    assert (
        abs(width - max(2, height * size[0] / size[1])) <= 2 or abs(height - max(2, width * size[1] / size[0])) <= 2
    )
    pixels = np.asarray(fitted.image)
    assert fitted.cut(pixels).min() == 255
    assert int((pixels == 255).all(2).sum()) == width * height


def test_nothing_of_the_picture_is_lost_between_bars() -> None:
    fitted = framed(thirds(300, 100), 120, 120, "letterbox")
    assert (fitted.size, fitted.box) == ((120, 40), (0, 40, 120, 80))
    shown = fitted.cut(np.asarray(fitted.image))
    for third, colour in enumerate(np.eye(3) * 255):
        assert shown[:, 40 * third + 4 : 40 * third + 36].reshape(-1, 3).mean(0) == pytest.approx(colour, abs=1)


def test_a_picture_of_the_shape_is_left_as_it_is() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (72, 128, 3), dtype=np.uint8))
    assert framed(noise, 128, 72, "crop").image.tobytes() == noise.tobytes()
    assert framed(noise, 128, 72, "letterbox").image.tobytes() == noise.tobytes()
