"""A video from the bytes of a stranger."""

from collections.abc import Iterator

from shared.errors import InvalidInput
from shared.media.animation import Animation
from shared.media.footage import Footage, SourceAudio
from shared.media.frames import UNLIMITED, Frame, VideoInfo, VideoLimits

__all__ = ["FORMATS", "UNLIMITED", "Frame", "VideoFile", "VideoInfo", "VideoLimits"]

FORMATS = ("MP4", "MOV", "WEBM", "MKV", "AVI", "GIF", "WEBP", "PNG", "JPEG")

_QUICKTIME = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
_SIGNATURES = {
    b"\x1aE\xdf\xa3": "matroska",
    b"GIF87a": "gif",
    b"GIF89a": "gif",
    b"\x89PNG\r\n\x1a\n": "picture",
    b"\xff\xd8\xff": "picture",
}


class VideoFile:
    """The frames of an MP4, MOV, WebM, MKV, AVI, GIF, animated WebP or PNG, or of a single picture.

    Held in memory as the file that it is; frames are decoded as they are asked for. No other demuxer than that of the
    signature sees the bytes, and whatever they name, nothing else is opened.
    """

    def __init__(self, data: bytes, limits: VideoLimits) -> None:
        """Read the header, then the first frame.

        Raises:
            InvalidInput: not a video that can be read, or nothing of it can be decoded.
            MediaTooLarge: more pixels, frames or seconds than the limits; by the header, before anything is decoded.
        """
        kind = _kind(data)
        self.data = data
        self._limits = limits
        self._source = Animation(data, limits) if kind == "picture" else Footage(data, kind, limits)

    @property
    def info(self) -> VideoInfo:
        """What the header says."""
        return self._source.info

    @property
    def truncated(self) -> bool:
        """Whether frames were missing or damaged, as far as they have been read."""
        return self._source.truncated

    def frames(self) -> Iterator[Frame]:
        """The frames from the first one on, each upright and in RGB; independent of other iterators.

        What cannot be decoded is left out, and sets `truncated`.

        Raises:
            MediaTooLarge: there are more pixels, frames or seconds than the limits, though the header said less.
        """
        for count, frame in enumerate(self._source.frames(), start=1):
            self._limits.check_length(count, frame.time_s)
            yield frame

    def packet_bytes(self) -> list[int]:
        """How many bytes each of the frames takes in the file, about in their order; nothing is decoded."""
        return self._source.packet_bytes()

    def audio(self) -> SourceAudio | None:
        """The sound, in a container that the caller closes; None where there is none."""
        return self._source.audio() if isinstance(self._source, Footage) else None


def _kind(data: bytes) -> str:
    """The demuxer by the file's first bytes, or `picture`."""
    if not data:
        raise InvalidInput("the video is empty; send its bytes")
    for signature, kind in _SIGNATURES.items():
        if data.startswith(signature):
            return kind
    if data[4:8] in _QUICKTIME:
        return "mov"
    if data[:4] == b"RIFF" and data[8:12] in (b"AVI ", b"WEBP"):
        return "avi" if data[8:12] == b"AVI " else "picture"
    raise InvalidInput(f"the data is not a video that can be read; send {', '.join(FORMATS)}")
