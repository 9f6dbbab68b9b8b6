"""The parameter that takes a video, or an animated picture."""

import hashlib

from shared.media.source import MediaInput, MediaLimits
from shared.media.video_file import FORMATS, VideoFile, VideoLimits


class VideoInput(MediaInput):
    """A parameter that takes a video; in Python, a VideoFile too. `read_video` gives a handler its frames.

    Loading reads the file's header; frames are decoded as the handler asks for them.
    """

    kind = "video"
    formats = ", ".join(FORMATS)
    decoded = (VideoFile,)

    _file: VideoFile

    @property
    def truncated(self) -> bool:
        """Whether the file was found to end before its last frame, so far as its frames were read."""
        return self._file.truncated

    def _take(self, source: VideoFile) -> None:
        self._file = source
        self._record = {"sha256": hashlib.sha256(source.data).hexdigest(), "bytes": len(source.data)}

    def _decode(self, data: bytes, limits: MediaLimits) -> None:
        self._file = VideoFile(data, VideoLimits(limits.max_pixels, limits.max_frames, limits.max_seconds))

    def _shape(self) -> str:
        return f"{self._file.info.width} x {self._file.info.height} pixels"


def read_video(source: VideoInput) -> VideoFile:
    """The video, to be read frame by frame, as often as the handler likes.

    Raises:
        RuntimeError: nobody loaded it; the runner does before it calls a handler.
    """
    if not source._is_loaded:
        raise RuntimeError("the video was not loaded before the handler ran")
    return source._file
