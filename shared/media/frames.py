"""What a video is to the rest of the worker: frames with their times, facts of the header, limits."""

from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from shared.errors import MediaTooLarge

Pixels = NDArray[np.uint8]
"""One picture: (height, width, 3), RGB."""


class Frame(NamedTuple):
    """One upright picture, and its time in seconds from the first one's."""

    pixels: Pixels
    time_s: float


@dataclass(frozen=True)
class VideoInfo:
    """What is known before the video is decoded; `width` and `height` are those of the upright frames."""

    width: int
    height: int
    fps: Fraction  # the average; 1 for a single picture
    frames: int | None
    seconds: float | None  # to the end of the last frame, which lasts as long as the average one where nothing tells
    has_audio: bool
    container: str
    is_constant: bool | None  # whether all frames last equally long; None where only decoding would tell
    audio_codec: str | None = None  # as FFmpeg names it; "unknown" where it does not


@dataclass(frozen=True)
class VideoLimits:
    """What this worker reads; each check raises MediaTooLarge, naming the variable that sets the limit."""

    max_pixels: int
    max_frames: int
    max_seconds: float

    @property
    def max_pixels_decoded(self) -> int:
        """What a decoder is told, since it counts whole blocks, and edges that are not shown."""
        return 2 * self.max_pixels + 65_536

    def check_size(self, width: int, height: int) -> None:
        """Whether one frame may be decoded."""
        if width * height > self.max_pixels:
            raise MediaTooLarge(
                f"the video has {width} x {height} pixels; the limit is {self.max_pixels:,} (MAX_IMAGE_PIXELS)"
            )

    def check_length(self, frames: int, seconds: float) -> None:
        """Whether a video may have so many frames, and last so long."""
        if frames > self.max_frames:
            raise MediaTooLarge(
                f"the video has {frames:,} frames or more; the limit is {self.max_frames:,} (MAX_VIDEO_FRAMES); "
                "send a shorter one"
            )
        if seconds > self.max_seconds:
            raise MediaTooLarge(
                f"the video lasts {seconds:,.4g} seconds or more; the limit is {self.max_seconds:g} "
                "(MAX_VIDEO_SECONDS); send a shorter one"
            )


UNLIMITED = VideoLimits(max_pixels=2**28, max_frames=2**31, max_seconds=1e9)
"""For what another pipeline of the same job has made."""
