"""Small videos, encoded where they are wanted, and ways to spoil them."""

import io
import struct
from collections.abc import Iterable, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.audio.resampler import AudioResampler
from av.video.reformatter import ColorRange, Colorspace
from PIL import Image

from shared.media.frames import Pixels, VideoLimits
from shared.media.video_file import VideoFile

LIMITS = VideoLimits(max_pixels=4_000_000, max_frames=1_000, max_seconds=60)
RED = (220, 30, 40)
TONE_HZ = 440


def plain(width: int, height: int, colour: Sequence[int] = RED) -> Pixels:
    """A picture of one colour."""
    return np.full((height, width, 3), colour, np.uint8)


def counting(width: int, height: int, frames: int) -> list[Pixels]:
    """Pictures whose left half says which one it is, in steps of 20 levels; the right half is red."""
    made = [plain(width, height) for _ in range(frames)]
    for number, picture in enumerate(made):
        picture[:, : max(1, width // 2)] = number * 20 % 240
    return made


def numbers(pictures: Iterable[Pixels]) -> list[int]:
    """Which pictures of `counting` these are."""
    return [round(float(picture[:, : max(1, picture.shape[1] // 4)].mean()) / 20) for picture in pictures]


def clip(width: int, height: int, frames: int = 5) -> bytes:
    """An MP4 of `counting`, at 24 frames a second."""
    return video_of(counting(width, height, frames))


def video_of(
    pictures: Sequence[Pixels],
    container: str = "mp4",
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    fps: Fraction = Fraction(24),
    *,
    pts: Sequence[int] | None = None,
    turn: tuple[float, bool] | None = None,
    space: Colorspace | None = None,
    full_range: bool | None = None,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    audio: str | None = None,
    audio_s: float = 1.0,
    audio_start_s: float = 0.0,
) -> bytes:
    """A video of RGB (or RGBA) pictures; `pts` in 1/fps, `turn` in degrees and mirrored, colours as tagged."""
    file = io.BytesIO()
    quick = {"preset": "ultrafast"} if codec == "libx264" else {}
    with av.open(file, "w", format=container, container_options=container_options or {}) as output:
        stream: Any = output.add_stream(codec, rate=fps, options={**quick, **(options or {})})
        stream.height, stream.width, _ = pictures[0].shape
        stream.pix_fmt, stream.codec_context.time_base = pix_fmt, 1 / fps
        if turn is not None:
            stream.set_display_rotation(turn[0], hflip=turn[1])
        if space is not None:
            stream.codec_context.colorspace = 1 if space == Colorspace.ITU709 else 6
        if full_range is not None:
            stream.codec_context.color_range = ColorRange.JPEG if full_range else ColorRange.MPEG
        sound: Any = output.add_stream(audio, rate=48_000) if audio else None
        if sound:
            sound.layout = "stereo"
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgba" if picture.shape[2] == 4 else "rgb24")
            if pix_fmt.startswith("yuv"):
                frame = frame.reformat(
                    format=pix_fmt,
                    dst_colorspace=space or Colorspace.ITU601,
                    src_color_range=ColorRange.JPEG,
                    dst_color_range=ColorRange.JPEG if full_range else ColorRange.MPEG,
                )
            frame.pts, frame.time_base = pts[number] if pts else number, 1 / fps
            output.mux(stream.encode(frame))
        if sound:
            _add_tone(output, sound, audio_s, audio_start_s)
        output.mux(stream.encode(None))
    return file.getvalue()


def _add_tone(output: Any, stream: Any, seconds: float, start_s: float) -> None:
    output.start_encoding()
    context = stream.codec_context
    wave = (8_000 * np.sin(np.arange(int(48_000 * seconds)) * 2 * np.pi * TONE_HZ / 48_000)).astype(np.int16)
    frame = av.AudioFrame.from_ndarray(wave.repeat(2)[None], format="s16", layout="stereo")
    frame.sample_rate, frame.pts, frame.time_base = 48_000, int(48_000 * start_s), Fraction(1, 48_000)
    resampler = AudioResampler(context.format, context.layout, context.rate, context.frame_size)
    for piece in (*resampler.resample(frame), *resampler.resample(None)):
        output.mux(stream.encode(piece))
    output.mux(stream.encode(None))


def sound_only() -> bytes:
    """An MP4 without pictures."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as output:
        stream: Any = output.add_stream("aac", rate=48_000)
        stream.layout = "stereo"
        _add_tone(output, stream, 0.5, 0.0)
    return file.getvalue()


def patched(data: bytes, box: bytes, at: int, value: bytes) -> bytes:
    """The MP4 with bytes of every box of one kind replaced, `at` bytes after its name."""
    spoilt, found = bytearray(data), data.find(box)
    assert found >= 0
    while found >= 0:
        spoilt[found + 4 + at : found + 4 + at + len(value)] = value
        found = data.find(box, found + 4)
    return bytes(spoilt)


def damaged(data: bytes, at: float, n_bytes: int = 200) -> bytes:
    """The file with noise in one place, given as a share of its length."""
    start = int(len(data) * at)
    noise = np.random.default_rng(3).integers(0, 256, n_bytes, dtype=np.uint8).tobytes()
    return data[:start] + noise + data[start + n_bytes :]


def referring_to(name: bytes, data: bytes) -> bytes:
    """The MP4 (its index behind its frames) whose frames lie in another file, by a Macintosh alias in `dref`."""
    record = bytearray(150)
    record[10], record[50] = 1, len(name)  # lengths of the names of the volume and the file
    record[51 : 51 + len(name)] = name
    record[130:134] = struct.pack(">hh", 1, 1)  # folders up from here, and down to there
    path = b"/" + name + b"\x00" * (len(name) % 2 == 0)
    alias = bytes(record) + struct.pack(">HH", 2, len(path)) + path + struct.pack(">h", -1)
    entry = struct.pack(">I4sI", 12 + len(alias), b"alis", 0) + alias
    old = data.find(b"url ") - 4
    grown = len(entry) - 12
    changed = bytearray(data[:old] + entry + data[old + 12 :])
    for box in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):
        start = changed.find(box) - 4
        changed[start : start + 4] = struct.pack(">I", struct.unpack_from(">I", changed, start)[0] + grown)
    return bytes(changed)


def limits(**changed: Any) -> VideoLimits:
    """The usual ones but for some."""
    return replace(LIMITS, **changed)


def pictures_of(data: bytes) -> list[Pixels]:
    """The frames of a video."""
    return [frame.pixels for frame in VideoFile(data, LIMITS).frames()]


def animation(image_format: str, colours: Sequence[tuple[int, ...]], ms: Sequence[int], mode: str = "RGB") -> bytes:
    """An animated picture of 24 x 16 pixels, each frame of one colour and for so many milliseconds."""
    frames = [Image.new(mode, (24, 16), colour) for colour in colours]
    file = io.BytesIO()
    options = {"lossless": True} if image_format == "WEBP" else {}
    frames[0].save(file, image_format, save_all=True, append_images=frames[1:], duration=list(ms), loop=0, **options)
    return file.getvalue()
