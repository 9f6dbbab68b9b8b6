"""GIFs: their colours, and that they loop."""

import numpy as np
import pytest
from PIL import Image

from shared.media.frames import Pixels
from shared.media.video_file import VideoFile
from shared.media.video_writer import Encoding
from tests.shared.media.clips import LIMITS, plain
from tests.shared.media.writing import written

pytestmark = pytest.mark.usefixtures("folder")


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
