"""The codecs that videos are written in, and their encoders over PyAV."""

import os
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, Protocol

import numpy as np
from av.container import OutputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, VideoReformatter
from av.video.stream import VideoStream
from PIL import Image

from shared.errors import InvalidInput
from shared.media.frames import Pixels

VideoFormat = Literal["mp4", "webm", "gif"]
VideoCodec = Literal["h264", "av1", "vp9"]

MEDIA_TYPES: dict[VideoFormat, str] = {"mp4": "video/mp4", "webm": "video/webm", "gif": "image/gif"}

# SVT-AV1 writes about itself to stderr, past FFmpeg's log, unless this says otherwise: errors only.
os.putenv("SVT_LOG", "1")

_H264_PRESETS = "ultrafast superfast veryfast faster fast medium slow slower veryslow"
_NUMBERED = "0 1 2 3 4 5 6 7 8 9 10 11 12 13"
_MOST_TERM = 1_000_000  # of a frame rate as a fraction, for its exact time base to fit into an MP4
_MOST_SIDE = 65_535  # of a gif, in 16 bits
_GIF_MOST_FPS = 50  # players show what is shorter than 20 ms for 100 ms


@dataclass(frozen=True)
class _Codec:
    encoder: Literal["libx264", "libsvtav1", "libvpx-vp9"]
    crf: int
    most_crf: int
    preset: str
    presets: tuple[str, ...]
    preset_option: str
    options: dict[str, str]
    multiple: int  # of pixels, that width and height must be
    least: int
    most: tuple[int, int] = (_MOST_SIDE, _MOST_SIDE)  # width and height


_CODECS: dict[VideoCodec, _Codec] = {
    "h264": _Codec("libx264", 18, 51, "veryfast", tuple(_H264_PRESETS.split()), "preset", {}, 2, 2, (16_384, 16_384)),
    "av1": _Codec("libsvtav1", 35, 63, "10", tuple(_NUMBERED.split()), "preset", {}, 1, 4, (16_384, 8_704)),
    "vp9": _Codec(
        *("libvpx-vp9", 32, 63, "8", tuple(_NUMBERED.split()[:10]), "cpu-used"),
        *({"deadline": "realtime", "row-mt": "1", "b": "0"}, 1, 1),
    ),
}
_OF_FORMAT: dict[VideoFormat, tuple[VideoCodec, ...]] = {"mp4": ("h264", "av1"), "webm": ("vp9", "av1"), "gif": ()}


@dataclass(frozen=True)
class Encoding:
    """How a video is written; None is the format's own: H.264 at crf 18 (MP4), VP9 at 32 (WebM), AV1 at 35.

    `preset` is x264's name, or the number of SVT-AV1's preset or of libvpx's cpu-used. `lossless` is H.264 in RGB,
    of any size: between pipelines, for hardly a player shows it.
    """

    format: VideoFormat
    codec: VideoCodec | None = None
    crf: int | None = None
    preset: str | None = None
    lossless: bool = False

    def __post_init__(self) -> None:
        """Check that they go together.

        Raises:
            InvalidInput: naming what does not.
        """
        if self.format == "gif":
            if (self.codec, self.crf, self.preset) != (None, None, None):
                raise InvalidInput("a gif has no codec, no crf and no preset; leave them out, or ask for an mp4")
            return
        if self.codec not in (None, *_OF_FORMAT[self.format]):
            names = " or ".join(_OF_FORMAT[self.format])
            raise InvalidInput(f"{self.codec} does not go into {self.format}; ask for {names}")
        codec = self.parameters
        if self.crf is not None and not 0 <= self.crf <= codec.most_crf:
            raise InvalidInput(f"crf is {self.crf}; for {self.codec_name} it is between 0 and {codec.most_crf}")
        if self.preset not in (None, *codec.presets):
            raise InvalidInput(f"no such preset for {self.codec_name}; ask for one of {', '.join(codec.presets)}")

    @property
    def codec_name(self) -> VideoCodec:
        """The codec, or the format's own."""
        return self.codec or _OF_FORMAT[self.format][0]

    @property
    def parameters(self) -> _Codec:
        """What the table knows of the codec."""
        return _CODECS[self.codec_name]

    def check_rate(self, fps: Fraction) -> None:
        """Whether the format holds so many frames a second.

        Raises:
            InvalidInput: it does not.
        """
        most = _GIF_MOST_FPS if self.format == "gif" else 1000
        if not 0 < fps <= most:
            raise InvalidInput(
                f"{float(fps):g} frames a second do not go into {self.format}; ask for {most} or fewer"
            )

    def check_size(self, width: int, height: int) -> None:
        """Whether the codec takes frames so large, in pixels.

        Raises:
            InvalidInput: it does not.
        """
        most = (_MOST_SIDE, _MOST_SIDE) if self.format == "gif" else self.parameters.most
        if width > most[0] or height > most[1]:
            name = "a gif" if self.format == "gif" else self.codec_name
            raise InvalidInput(
                f"frames of {width} x {height} do not go into {name}, which takes {most[0]} x {most[1]} at the most; "
                "ask for smaller ones"
            )


def kept_rate(fps: Fraction) -> Fraction:
    """The rate that a file can hold: exact where both its terms are at most a million, else to 1/1001."""
    return fps if max(fps.numerator, fps.denominator) <= _MOST_TERM else fps.limit_denominator(1001)


LOSSLESS = Encoding("mp4", lossless=True)


class Encoder(Protocol):
    """Pictures to packets of one stream; each packet has its time and duration."""

    stream: VideoStream

    def encode(self, pixels: Pixels) -> "list[Packet[VideoStream]]":
        """The packets that have become ready."""
        ...

    def rest(self) -> "list[Packet[VideoStream]]":
        """Those still inside, at the end."""
        ...


def encoder_into(container: OutputContainer, width: int, height: int, fps: Fraction, encoding: Encoding) -> Encoder:
    """The encoder of a new stream in the container."""
    if encoding.format == "gif":
        return _GifEncoder(container, width, height, fps)
    if encoding.lossless:
        return _LosslessEncoder(container, width, height, fps)
    return _FilmEncoder(container, width, height, fps, encoding)


def padding(width: int, height: int, encoding: Encoding) -> tuple[int, int]:
    """Columns and rows to add on the right and below, for a codec that does not take any size."""
    if encoding.format == "gif" or encoding.lossless:
        return 0, 0
    codec = encoding.parameters

    def missing(side: int) -> int:
        return max(codec.least, side + -side % codec.multiple) - side

    return missing(width), missing(height)


class _FilmEncoder:
    """H.264, AV1 or VP9 in yuv420p, tagged as BT.709 of limited range."""

    def __init__(
        self, container: OutputContainer, width: int, height: int, fps: Fraction, encoding: Encoding
    ) -> None:
        codec = encoding.parameters
        crf = codec.crf if encoding.crf is None else encoding.crf
        options = {**codec.options, "crf": str(crf), codec.preset_option: encoding.preset or codec.preset}
        stream = container.add_stream(codec.encoder, rate=fps, options=options)
        columns, rows = padding(width, height, encoding)
        self._padding = ((0, rows), (0, columns), (0, 0))
        stream.width, stream.height, stream.pix_fmt = width + columns, height + rows, "yuv420p"
        context = stream.codec_context
        context.time_base = 1 / fps
        context.colorspace, context.color_range = 1, ColorRange.MPEG  # AVCOL_SPC_BT709
        context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        self.stream = stream
        self._time_base, self._count, self._reformatter = 1 / fps, 0, VideoReformatter()

    def encode(self, pixels: Pixels) -> "list[Packet[VideoStream]]":
        """See Encoder."""
        padded = np.pad(pixels, self._padding, mode="edge") if any(map(any, self._padding)) else pixels
        frame = self._reformatter.reformat(
            VideoFrame.from_numpy_buffer(np.ascontiguousarray(padded), "rgb24"),
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            src_color_range=ColorRange.JPEG,
            dst_color_range=ColorRange.MPEG,
        )
        frame.pts, frame.time_base = self._count, self._time_base
        self._count += 1
        return self.stream.encode(frame)

    def rest(self) -> "list[Packet[VideoStream]]":
        """See Encoder."""
        return self.stream.encode(None)


class _LosslessEncoder:
    """H.264 in RGB, quick rather than small."""

    def __init__(self, container: OutputContainer, width: int, height: int, fps: Fraction) -> None:
        stream = container.add_stream("libx264rgb", rate=fps, options={"qp": "0", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "rgb24"
        stream.codec_context.time_base = 1 / fps
        self.stream = stream
        self._time_base, self._count = 1 / fps, 0

    def encode(self, pixels: Pixels) -> "list[Packet[VideoStream]]":
        """See Encoder."""
        frame = VideoFrame.from_numpy_buffer(np.ascontiguousarray(pixels), "rgb24")
        frame.pts, frame.time_base = self._count, self._time_base
        self._count += 1
        return self.stream.encode(frame)

    def rest(self) -> "list[Packet[VideoStream]]":
        """See Encoder."""
        return self.stream.encode(None)


class _GifEncoder:
    """Palettes by median cut, kept while they fit so that what rests does not flicker; dithering by error diffusion.

    Frames start at the hundredths of a second next to their times, so that the whole lasts as long as it should.
    """

    def __init__(self, container: OutputContainer, width: int, height: int, fps: Fraction) -> None:
        stream = container.add_stream("gif", rate=fps)
        stream.width, stream.height, stream.pix_fmt = width, height, "pal8"
        stream.codec_context.time_base = Fraction(1, 100)
        self.stream = stream
        self._fps, self._count, self._palette = fps, 0, _Palette()

    def encode(self, pixels: Pixels) -> "list[Packet[VideoStream]]":
        """See Encoder."""
        drawn = self._palette.apply(Image.fromarray(pixels))
        frame = VideoFrame.from_ndarray(drawn, format="pal8")  # type: ignore[arg-type] # a pair for pal8
        frame.pts, frame.time_base = self._starts(self._count), Fraction(1, 100)
        self._count += 1
        packets = self.stream.encode(frame)
        for packet in packets:  # one a frame, at once
            packet.duration = self._starts(self._count) - self._starts(self._count - 1)
        return packets

    def rest(self) -> "list[Packet[VideoStream]]":
        """See Encoder."""
        return self.stream.encode(None)

    def _starts(self, number: int) -> int:
        return round(number * 100 / self._fps)


class _Palette:
    """256 colours for a picture, and for those after it that they fit about as well."""

    _SAMPLE = (160, 160)
    _WORSE = 1.25

    def __init__(self) -> None:
        self._colours: Image.Image | None = None
        self._most_error = 0.0

    def apply(self, image: Image.Image) -> tuple[Pixels, Pixels]:
        """Indices (height, width), and the palette (256, 4) as ARGB."""
        small = image.resize([min(a, b) for a, b in zip(image.size, self._SAMPLE, strict=True)])
        if self._colours is None or _error(small, self._colours) > self._most_error:
            self._colours = small.quantize(256, method=Image.Quantize.MEDIANCUT)
            self._most_error = self._WORSE * _error(small, self._colours) + 1
        drawn = image.quantize(palette=self._colours, dither=Image.Dither.FLOYDSTEINBERG)
        colours = np.array(drawn.getpalette("RGB"), np.uint8).reshape(-1, 3)
        argb = np.full((256, 4), 255, np.uint8)
        argb[: len(colours), 1:] = colours
        return np.array(drawn), argb


def _error(image: Image.Image, colours: Image.Image) -> float:
    nearest = image.quantize(palette=colours, dither=Image.Dither.NONE).convert("RGB")
    return float(np.abs(np.asarray(image, np.int16) - np.asarray(nearest, np.int16)).mean())
