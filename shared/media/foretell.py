"""How large a result will be at the least, foretold from a sample of its pixels before anything is computed."""

import io
import statistics
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import islice

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shared.media.encoding import Encoding, encoder_into, kept_rate
from shared.media.frames import Pixels
from shared.media.image import encode_image
from shared.media.video import VideoParams
from shared.media.video_file import VideoFile
from shared.schemas import ImageFormat

Check = Callable[[], None]
TRIED = 12  # frames that are encoded
CROPS, CROP = 3, 256  # of a large picture 3 x 3 parts are looked at, each of so many pixels a side in the result
ALIKE = 0.5  # of the usual packet of those tried: frames of smaller packets are counted as if they took nothing
_POLL_S = 0.1
_one_at_a_time = threading.Lock()


def video_bytes(
    video: VideoFile,
    scale: float,
    params: VideoParams,
    *,
    fps: Fraction | None = None,
    check: Check = lambda: None,
) -> int:
    """Bytes of the video when each frame is enlarged by `scale` and `fps` are shown a second, without its sound.

    Parts of its first frames are enlarged and encoded. The frames after them that were about as hard to compress for
    the source, by the size of their packets, are taken to be so again; the others, frames added between them and what
    a network adds in detail come on top. `check` is called for each frame, and may raise.

    Raises:
        InvalidInput: the format holds no such rate, or no such size.
    """
    encoding, fps = params.encoding(), fps or video.info.fps
    encoding.check_rate(fps)
    encoding.check_size(round(video.info.width * scale), round(video.info.height * scale))
    with _alone(check):
        first, *later = _tried(video, scale, kept_rate(fps), encoding, check)
    packets = video.packet_bytes()
    if not later or len(packets) < 2:
        return first
    each = statistics.fmean(later)
    if encoding.format != "gif":
        # Where something moves, what comes into a part from beside it takes bytes that it does not take in the whole.
        each = min(each, first * statistics.fmean(packets[1:TRIED]) / packets[0])
    frames = (1 + len(later) + _alike(packets)) * min(1.0, float(fps / video.info.fps))
    return first + int(each * max(0, frames - 1))


def image_bytes(image: Image.Image, scale: float, image_format: ImageFormat, *, check: Check = lambda: None) -> int:
    """Bytes of the picture when it is enlarged by `scale`; what a network adds in detail comes on top."""
    with _alone(check):
        sample, share = _sample(np.asarray(image), scale)
        return int(len(encode_image(sample, image_format)) / share)


@contextmanager
def _alone(check: Check) -> Iterator[None]:
    """Wait for those of other jobs, which would take memory and processors from what runs on the device."""
    while not _one_at_a_time.acquire(timeout=_POLL_S):
        check()
    try:
        yield
    finally:
        _one_at_a_time.release()


def _tried(video: VideoFile, scale: float, fps: Fraction, encoding: Encoding, check: Check) -> list[int]:
    """Bytes of each of the first frames."""
    encoder, packets, share = None, [], 1.0
    with av.open(io.BytesIO(), "w", format=encoding.format) as container:
        for frame in islice(video.frames(), TRIED):
            check()
            sample, share = _sample(frame.pixels, scale)
            encoder = encoder or encoder_into(container, sample.width, sample.height, fps, encoding)
            packets += encoder.encode(np.asarray(sample))
        packets += encoder.rest() if encoder else []
    return [int(packet.size / share) for packet in packets]


def _sample(pixels: Pixels, scale: float) -> tuple[Image.Image, float]:
    """Parts of the picture beside each other, enlarged, and what share of the whole they are; all of a small one."""
    most = max(CROPS, int(CROPS * CROP / scale))
    rows, columns = (_spread(length, most) for length in pixels.shape[:2])
    sample = Image.fromarray(pixels[rows][:, columns])
    size = (max(1, round(sample.width * scale)), max(1, round(sample.height * scale)))
    share = len(rows) * len(columns) / (pixels.shape[0] * pixels.shape[1])
    return sample.resize(size, Image.Resampling.BICUBIC), share


def _spread(length: int, most: int) -> NDArray[np.intp]:
    """Indices along a side: all, or `most` in groups from its begin to its end."""
    if length <= most:
        return np.arange(length)
    group = most // CROPS
    return (np.linspace(0, length - group, CROPS).astype(np.intp)[:, None] + np.arange(group)).ravel()


def _alike(packets: list[int]) -> int:
    """How many frames after those tried were as hard to compress; the first one is always hard."""
    usual = statistics.median(packets[1:TRIED])
    return sum(size >= ALIKE * usual for size in packets[TRIED:])
