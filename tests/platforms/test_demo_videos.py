"""Videos through a real worker and the demo models: enlarged, interpolated, and whatever strangers send."""

import base64
import io
import json
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from shared.errors import Cancelled, JobError
from shared.media.frames import Pixels, VideoLimits
from shared.media.video_file import VideoFile
from shared.media.video_writer import Encoding, VideoWriter
from templates.demo_models import judge
from templates.demo_models.train.shapes import Placement, Scene, draw
from tests.platforms.harness import until
from tests.shared.media.clips import clip, counting, sound_only, video_of
from tests.studio import Studio

LIMITS = VideoLimits(10**7, 1000, 100)
RED = "a red circle on a blue background"


def moving(frames: int, fps: Fraction = Fraction(12), **more: Any) -> bytes:
    """A red circle that goes to the right on blue."""
    scene = Scene("circle", "red", "blue")
    places = [Placement(-0.2 + 0.4 * n / max(1, frames - 1), 0.0, 0.2) for n in range(frames)]
    return video_of([draw(scene, at) for at in places], fps=fps, options={"crf": "4"}, **more)


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def as_file(image: Image.Image, image_format: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()


def film(studio: Studio, result: dict[str, Any]) -> VideoFile:
    (video,) = result["videos"]
    made = VideoFile(studio.client.download(video["url"]), LIMITS)
    assert made.info.frames in (None, video["frames"])  # a webm does not tell
    assert float(made.info.fps) == video["fps"]
    return made


def picture(studio: Studio, result: dict[str, Any]) -> Image.Image:
    return Image.open(io.BytesIO(studio.client.download(result["images"][0]["url"])))


def frames(video: VideoFile) -> list[Pixels]:
    return [frame.pixels for frame in video.frames()]


def center(pixels: Pixels) -> float:
    """How far right the red circle is, in pixels."""
    red = np.clip(pixels[..., 0].astype(np.float64) - pixels[..., 2], 0, None)
    return float(red.sum(0) @ np.arange(pixels.shape[1]) / red.sum())


def test_twenty_five_frames_at_twelve_become_forty_nine_at_twenty_four(studio: Studio, tmp_path: Path) -> None:
    given = {"pipeline": "frame-interpolation", "video": encoded(moving(25, audio="aac", audio_s=2.04))}
    result = studio.client.run(given)
    made = film(studio, result)
    assert (made.info.frames, float(made.info.fps)) == (49, 24.0)
    assert made.info.has_audio
    shown = list(made.frames())
    assert [round(frame.time_s, 6) for frame in shown] == [round(n / 24, 6) for n in range(49)]
    places = [center(frame.pixels) for frame in shown]
    even = np.linspace(places[0], places[-1], 49)
    assert np.abs(np.array(places) - even).max() < 0.5  # of 25 pixels that it goes
    assert result["receipt"]["params"]["target_fps"] == 24.0
    assert result["metrics"]["frames_out"] == 49
    if shutil.which("ffprobe"):  # a second opinion
        (tmp_path / "made.mp4").write_bytes(made.data)
        asked = ["-count_frames", "-select_streams", "v:0", "-show_entries", "stream=nb_read_frames,avg_frame_rate"]
        told = subprocess.run(
            [
                "ffprobe",
                "-v",
                "error",
                *asked,
                "-show_entries",
                "format=duration",
                "-of",
                "json",
                tmp_path / "made.mp4",
            ],
            capture_output=True,
            text=True,
            check=True,
        )
        body = json.loads(told.stdout)
        assert body["streams"] == [{"avg_frame_rate": "24/1", "nb_read_frames": "49"}]
        assert round(float(body["format"]["duration"]), 2) == 2.04


def test_two_pictures_become_a_video(studio: Studio) -> None:
    ends = frames(VideoFile(moving(2), LIMITS))
    images = [encoded(as_file(Image.fromarray(end))) for end in ends]
    made = film(studio, studio.client.run({"pipeline": "frame-interpolation", "images": images, "in_between": 3}))
    places = [center(pixels) for pixels in frames(made)]
    assert len(places) == 5
    assert places == sorted(places)


def test_a_drawing_is_enlarged(studio: Studio) -> None:
    drawn = studio.client.run({"pipeline": "text-to-image", "prompt": RED, "seed": 3})["images"][0]["url"]
    large = picture(studio, studio.client.run({"pipeline": "upscale", "image": drawn, "scale": 4}))
    assert large.size == (256, 256)
    assert judge.matches(large, RED)


def test_a_video_is_enlarged_with_its_sound_and_rate(studio: Studio) -> None:
    given = {"pipeline": "upscale", "video": encoded(moving(6, audio="aac", audio_s=0.5)), "scale": 2}
    made = film(studio, studio.client.run(given))
    assert (made.info.width, made.info.height, made.info.frames, float(made.info.fps)) == (128, 128, 6, 12.0)
    assert made.info.has_audio
    places = [center(pixels) for pixels in frames(made)]
    assert places == sorted(places)


def test_cancel_of_a_long_video_frees_the_device(studio: Studio) -> None:
    long = {"pipeline": "frame-interpolation", "video": encoded(moving(60)), "factor": 16}
    job = studio.client.submit(long)
    until(lambda: (studio.client.status(job).get("output") or {}).get("step"), 60)
    studio.client.cancel(job)
    assert picture(studio, studio.client.run({"pipeline": "text-to-image", "prompt": RED})).size == (64, 64)
    with pytest.raises(Cancelled):
        studio.client.wait(job)


BAD = {
    "a text": (b"Once upon a time there was no video.", "invalid_input: .*video"),
    "nothing": (b"\0", "invalid_input: "),
    "sound alone": (sound_only(), "invalid_input: "),
    "cut in its header": (clip(64, 64)[:40], "invalid_input: "),
    "cut before its index": (clip(64, 64)[:-400], "invalid_input: "),
    "ten hours by its header": (
        video_of(counting(64, 64, 2), fps=Fraction(1), pts=[0, 36_000]),
        "media_too_large: .*MAX_VIDEO_SECONDS",
    ),
}


@pytest.mark.parametrize("pipeline", ["upscale", "frame-interpolation"])
@pytest.mark.parametrize("what", BAD)
def test_what_is_no_video_is_refused_with_the_reason(studio: Studio, what: str, pipeline: str) -> None:
    data, says = BAD[what]
    with pytest.raises(JobError, match=says):
        studio.client.run({"pipeline": pipeline, "video": encoded(data)})


def test_frames_before_a_cut_come_out(studio: Studio) -> None:
    writer = VideoWriter(64, 48, Fraction(24), Encoding("mp4"))  # its index is in front
    for seed in range(10):
        writer.write(np.random.default_rng(seed).integers(0, 256, (48, 64, 3), np.uint8))
    whole = writer.finish().data
    result = studio.client.run({"pipeline": "upscale", "video": encoded(whole[: len(whole) * 3 // 4]), "scale": 2})
    made = frames(film(studio, result))
    assert 0 < len(made) < 10
    assert result["metrics"]["truncated_input"] is True


@pytest.mark.parametrize(("width", "height"), [(1, 1), (63, 47), (5, 2)])
def test_odd_and_tiny_videos_come_out(studio: Studio, width: int, height: int) -> None:
    data = video_of(counting(width, height, 3), "webm", "libvpx-vp9")
    large = film(studio, studio.client.run({"pipeline": "upscale", "video": encoded(data), "scale": 2}))
    assert (large.info.width, large.info.height, large.info.frames) == (2 * width, 2 * height, 3)
    smooth = studio.client.run({"pipeline": "frame-interpolation", "video": encoded(data), "factor": 2})
    assert film(studio, smooth).info.frames == 5


def test_an_animated_webp_is_a_video(studio: Studio) -> None:
    stills = [Image.fromarray(pixels) for pixels in counting(64, 64, 4)]
    data = as_file(stills[0], "WEBP", save_all=True, append_images=stills[1:], duration=100, lossless=True)
    given = {"pipeline": "frame-interpolation", "video": encoded(data), "factor": 2, "video_format": "webm"}
    made = film(studio, studio.client.run(given | {"scene_cut": False}))
    assert made.info.fps == 20
    assert len(frames(made)) == 7


SHADES = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
TURNED = Image.Exif()
TURNED[0x0112] = 6
PHOTO = Image.linear_gradient("L").resize((64, 48)).convert("RGB")
PICTURES: dict[str, tuple[bytes, tuple[int, int]]] = {
    "grey": (as_file(PHOTO.convert("L")), (128, 96)),
    "16-bit grey": (as_file(Image.fromarray(SHADES)), (128, 128)),
    "CMYK": (as_file(PHOTO.convert("CMYK"), "JPEG"), (128, 96)),
    "turned by EXIF": (as_file(PHOTO, "JPEG", exif=TURNED), (96, 128)),
    "one pixel": (as_file(Image.new("RGB", (1, 1), "red")), (2, 2)),
    "odd": (as_file(PHOTO.resize((63, 47))), (126, 94)),
    "animated": (as_file(PHOTO, "WEBP", save_all=True, append_images=[ImageOps.mirror(PHOTO)]), (128, 96)),
}


@pytest.mark.parametrize("what", PICTURES)
def test_pictures_of_every_kind_are_enlarged(studio: Studio, what: str) -> None:
    data, size = PICTURES[what]
    large = picture(studio, studio.client.run({"pipeline": "upscale", "image": encoded(data), "scale": 2}))
    assert (large.mode, large.size) == ("RGB", size)


def test_transparency_survives(studio: Studio) -> None:
    clear = Image.new("RGBA", (32, 32), (200, 30, 30, 0))
    clear.paste((200, 30, 30, 255), (8, 8, 24, 24))
    large = picture(studio, studio.client.run({"pipeline": "upscale", "image": encoded(as_file(clear)), "scale": 2}))
    assert large.mode == "RGBA"
    assert [large.getpixel(at)[3] for at in ((2, 2), (32, 32))] == [0, 255]  # type: ignore[index]
