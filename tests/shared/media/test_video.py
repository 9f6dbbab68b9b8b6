import base64
import hashlib

import pytest
from pydantic import BaseModel, ValidationError

from shared.errors import InvalidInput, MediaTooLarge
from shared.media.fetch import Fetcher
from shared.media.source import MediaLimits, media_inputs
from shared.media.video import VideoInput, read_video
from shared.media.video_file import VideoFile, VideoLimits
from tests.shared.media.clips import clip
from tests.shared.media.loopback import loopback, reply

LIMITS = MediaLimits(max_bytes=1_000_000, max_pixels=10_000, max_frames=20, max_seconds=10)
FETCHER = Fetcher(LIMITS.max_bytes, 20)
CLIP = clip(48, 32, frames=5)


class Asked(BaseModel):
    video: VideoInput
    others: list[VideoInput] = []


def asked(data: bytes = CLIP) -> VideoInput:
    return Asked.model_validate({"video": base64.b64encode(data).decode()}).video


def test_reads_base64_before_its_frames() -> None:
    video = asked()
    assert repr(video) == f"VideoInput({len(CLIP)} bytes)"
    video.load(FETCHER, LIMITS)

    assert repr(video) == "VideoInput(48 x 32 pixels)"
    assert [frame.pixels.shape for frame in read_video(video).frames()] == [(32, 48, 3)] * 5
    assert video.as_record() == {"sha256": hashlib.sha256(CLIP).hexdigest(), "bytes": len(CLIP)}


def test_reads_a_url() -> None:
    with loopback({"/clip.mp4": reply(200, CLIP)}) as server:
        video = Asked.model_validate({"video": server.url("/clip.mp4")}).video
        video.load(Fetcher(LIMITS.max_bytes, 20, server.netloc), LIMITS)
    assert read_video(video).info.width == 48


def test_takes_a_video_from_another_pipeline() -> None:
    file = VideoFile(CLIP, VideoLimits(10_000, 20, 10))
    video = Asked.model_validate({"video": file}).video
    video.load(FETCHER, LIMITS)
    assert read_video(video) is file
    assert video.as_record()["sha256"] == hashlib.sha256(CLIP).hexdigest()


def test_the_schema_names_the_formats() -> None:
    schema = Asked.model_json_schema()["properties"]["video"]
    assert (schema["type"], schema["format"]) == ("string", "video")
    assert "MP4" in schema["description"].upper()


def test_is_found_among_the_parameters() -> None:
    one, two = asked(), asked()
    assert media_inputs(Asked(video=one, others=[two])) == [one, two]


@pytest.mark.parametrize("value", [7, "file:///etc/passwd", ""])
def test_refuses_what_is_no_source(value: object) -> None:
    with pytest.raises(ValidationError):
        Asked.model_validate({"video": value})


def test_text_is_not_a_video() -> None:
    with pytest.raises(InvalidInput):
        asked(b"I am a letter, and not a video at all").load(FETCHER, LIMITS)


def test_more_than_the_limits_is_refused_before_a_frame_is_decoded() -> None:
    with pytest.raises(MediaTooLarge, match="MAX_VIDEO_FRAMES"):
        asked(clip(48, 32, frames=30)).load(FETCHER, LIMITS)
    with pytest.raises(MediaTooLarge, match="MAX_IMAGE_PIXELS"):
        asked(clip(160, 90, frames=2)).load(FETCHER, LIMITS)


def test_reading_before_loading_is_a_mistake_of_ours() -> None:
    with pytest.raises(RuntimeError, match="not loaded"):
        read_video(asked())
