"""A decoded picture as upright 8-bit RGB."""

from typing import cast

import numpy as np
from av.sidedata.sidedata import SideDataContainer
from av.sidedata.sidedata import Type as SideDataType
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, VideoReformatter
from numpy.typing import NDArray

from shared.media.frames import Pixels

_UNTAGGED, _BT709 = 2, 1  # AVColorSpace

UPRIGHT: NDArray[np.int32] = np.eye(2, dtype=np.int32)


def rgb(frame: VideoFrame, size: tuple[int, int], reformatter: VideoReformatter) -> Pixels:
    """8-bit RGB, transparency on white; scaled to `size`, should the video change its own."""
    if frame.colorspace == _UNTAGGED and not frame.format.is_rgb and (frame.width >= 1280 or frame.height > 576):
        frame.colorspace = _BT709  # as players do; the converter takes BT.601
    has_alpha = frame.format.has_palette or any(part.is_alpha for part in frame.format.components)
    plain = reformatter.reformat(
        frame, *size, format="rgba" if has_alpha else "rgb24", dst_color_range=ColorRange.JPEG
    )
    pixels: Pixels = np.ascontiguousarray(plain.to_ndarray(), dtype=np.uint8)
    return _on_white(pixels) if has_alpha else pixels


def orientation(frame: VideoFrame) -> NDArray[np.int32]:
    """The turning part of the display matrix: x' = a x + c y, y' = b x + d y, as [[a, b], [c, d]]."""
    side_data = cast(SideDataContainer, frame.side_data)  # what it is; its stub knows motion vectors only
    for piece in side_data:
        if piece.type == SideDataType.DISPLAYMATRIX:
            return np.frombuffer(bytes(piece), np.int32).reshape(3, 3)[:2, :2]
    return UPRIGHT


def turned(pixels: Pixels, matrix: NDArray[np.int32]) -> Pixels:
    """The picture as it is shown; turns other than by quarters are taken for the nearest one."""
    (a, b), (c, d) = matrix.tolist()
    if abs(b) + abs(c) > abs(a) + abs(d):
        pixels, a, d = pixels.transpose(1, 0, 2), c, b
    return np.ascontiguousarray(pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])


def _on_white(pixels: Pixels) -> Pixels:
    alpha = pixels[:, :, 3:].astype(np.uint16)
    mixed = (pixels[:, :, :3] * alpha + 255 * (255 - alpha) + 127) // 255
    return mixed.astype(np.uint8)
