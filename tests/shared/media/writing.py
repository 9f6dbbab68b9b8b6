"""Writing small videos, and looking at what was written."""

import json
import shutil
import subprocess
from fractions import Fraction
from typing import Any

import pytest

from shared.media.frames import Pixels
from shared.media.video_file import VideoFile
from shared.media.video_writer import EncodedVideo, Encoding, VideoWriter
from tests.shared.media.clips import LIMITS, counting, video_of

Streams = dict[str, dict[str, Any]]
ENCODINGS = [Encoding("mp4"), Encoding("mp4", "av1"), Encoding("webm"), Encoding("webm", "av1"), Encoding("gif")]

needs_ffprobe = pytest.mark.skipif(not shutil.which("ffprobe"), reason="ffprobe is not installed; PyAV looks instead")


def written(
    pictures: list[Pixels], encoding: Encoding, fps: Fraction = Fraction(24), audio: bytes | None = None
) -> EncodedVideo:
    """The pictures as a video, with the sound of another one where that is given."""
    height, width, _ = pictures[0].shape
    writer = VideoWriter(width, height, fps, encoding, audio=VideoFile(audio, LIMITS) if audio else None)
    for picture in pictures:
        writer.write(picture)
    return writer.finish()


def probed(data: bytes) -> Streams:
    """What ffprobe says of the streams, by kind, with their packets."""
    done = subprocess.run(
        ["ffprobe", "-v", "error", "-show_streams", "-show_packets", "-of", "json", "-"],
        input=data,
        capture_output=True,
        timeout=30,
    )
    facts = json.loads(done.stdout)
    for stream in facts["streams"]:
        stream["packets"] = [p for p in facts["packets"] if p["stream_index"] == stream["index"]]
    return {stream["codec_type"]: stream for stream in facts["streams"]}


def with_sound(container: str = "mp4", codec: str = "libx264", audio: str = "aac", **more: Any) -> bytes:
    """A second of pictures with a tone."""
    return video_of(counting(64, 48, 24), container, codec, audio=audio, **more)
