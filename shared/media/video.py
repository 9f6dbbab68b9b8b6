"""Videos as parameters: one that a job sends, and how the one that it gets is written."""

import hashlib
from typing import Self

from pydantic import Field, model_validator

from shared.errors import InvalidInput
from shared.media.encoding import Encoding, VideoCodec, VideoFormat
from shared.media.source import MediaInput, MediaLimits
from shared.media.video_file import FORMATS, VideoFile, VideoLimits
from shared.schemas import ModelParams


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

    @property
    def pixels(self) -> int:
        """None: its frames are decoded as they are asked for."""
        return 0

    def file(self) -> bytes:
        """See MediaInput."""
        return self._file.data

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


class VideoParams(ModelParams):
    """The parameters of a pipeline that makes a video."""

    video_format: VideoFormat = Field("mp4", description="File format of the video.")
    video_codec: VideoCodec | None = Field(
        None, description="h264 in mp4, vp9 in webm when not given; av1 goes into either."
    )
    crf: int | None = Field(
        None, ge=0, le=63, description="Constant quality, less is better: 0 to 51 for h264, to 63 for the others."
    )

    @model_validator(mode="after")
    def _encoding_exists(self) -> Self:
        try:
            self.encoding()
        except InvalidInput as exc:
            raise ValueError(exc.message) from None
        return self

    def encoding(self) -> Encoding:
        """How the video is written."""
        return Encoding(self.video_format, self.video_codec, self.crf)
