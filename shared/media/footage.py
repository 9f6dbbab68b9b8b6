"""Frames from the videos that FFmpeg reads, by the demuxers and decoders that a stranger's bytes may reach."""

import io
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from typing import Literal, NamedTuple, NoReturn

import av
from av.audio.stream import AudioStream
from av.codec.context import CodecContext
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from shared.errors import InvalidInput
from shared.media.endings import is_cut
from shared.media.frames import Frame, VideoInfo, VideoLimits
from shared.media.rgb import UPRIGHT, orientation, rgb, turned
from shared.media.timing import timing

VIDEO_DECODERS = (
    *("h264", "hevc", "vp8", "vp9", "libvpx-vp9", "libdav1d", "av1", "mpeg4", "mpeg2video", "h263", "mjpeg"),
    *("prores", "dnxhd", "ffv1", "png", "qtrle", "rawvideo", "theora", "gif"),
)
AUDIO_DECODERS = (
    *("aac", "mp3", "mp3float", "opus", "libopus", "vorbis", "flac", "alac", "ac3", "eac3", "amrnb"),
    *("pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be", "pcm_s32le", "pcm_f32le", "pcm_u8"),
)


_LONGEST_LAST_FRAME_S = 1.0


class SourceAudio(NamedTuple):
    """The sound of a video, in a container opened for it alone.

    `start_s` is when the first picture is shown, and `pictures_s` how long they last from then on.
    """

    container: InputContainer
    stream: AudioStream
    start_s: Fraction
    pictures_s: Fraction


def _open_nothing(url: str, flags: int, options: dict[str, str]) -> NoReturn:
    raise PermissionError("a video may not name other files")


def _opened(data: bytes, demuxer: str, limits: VideoLimits) -> InputContainer:
    """The container by its one demuxer, without probing; nothing that its bytes name is opened.

    Raises:
        InvalidInput: the demuxer cannot read it.
    """
    # While a container is opened, no decoder runs to find out more: what its header forbids must not be decoded. But
    # two codecs keep their size to themselves; they are told the limit.
    options = {
        "codec_whitelist": "mpeg4,h263",
        "max_pixels": str(limits.max_pixels_decoded),
        "protocol_whitelist": "none",
    }
    try:
        return av.open(
            io.BytesIO(data), "r", demuxer, options=options, metadata_errors="replace", io_open=_open_nothing
        )
    except (av.FFmpegError, OSError, ValueError) as exc:
        if demuxer == "mov" and b"moov" not in data:
            raise InvalidInput(
                "the video ends before its index (moov): its recording or upload was cut; send it whole"
            ) from exc
        raise InvalidInput("the video is damaged, or ends inside its header; save it anew and send it whole") from exc


def audio_codec_of(stream: AudioStream) -> str:
    """Its name, as FFmpeg has it; "unknown" where it does not know it."""
    return stream.codec_context.name if stream.codec_context else "unknown"


class Footage:
    """A video in one of FFmpeg's containers; every iteration opens it anew."""

    def __init__(self, data: bytes, demuxer: str, limits: VideoLimits) -> None:
        """Hold the header against the limits, then decode the first frame: only that says what upright is.

        Raises:
            InvalidInput: no video stream, a codec that is not read, or no frame.
            MediaTooLarge: by the header.
        """
        self.truncated = is_cut(data, demuxer)
        self._data, self._demuxer, self._limits = data, demuxer, limits
        with _opened(data, demuxer, limits) as container:
            stream = _video_stream(container)
            limits.check_size(stream.width, stream.height)
            self._seconds = _seconds(container, stream)
            limits.check_length(stream.frames, self._seconds or 0.0)
            audio_codec = audio_codec_of(container.streams.audio[0]) if container.streams.audio else None
            times = timing(container, stream, demuxer, limits)
        self._fps, self._shown_s = times.fps, times.seconds
        self._start_s = Fraction(0)
        first = next(self.frames(), None)
        if first is None:
            raise InvalidInput("no frame of the video can be decoded; it is empty or damaged: save it anew")
        height, width, _ = first.pixels.shape
        self.info = VideoInfo(
            width=width,
            height=height,
            fps=times.fps,
            frames=times.frames,
            seconds=self._seconds if times.seconds is None else times.seconds,
            has_audio=audio_codec is not None,
            container=demuxer,
            is_constant=times.is_constant,
            audio_codec=audio_codec,
        )

    def frames(self) -> Iterator[Frame]:
        """The frames that can be decoded; `truncated` is set where some are missing or damaged."""
        reformatter, clock, time_s, count = VideoReformatter(), _Clock(1 / self._fps), 0.0, 0
        with _opened(self._data, self._demuxer, self._limits) as container:
            stream = _video_stream(container)
            upright, size = UPRIGHT, (0, 0)
            for decoded in self._decoded(container, stream):
                decoded.time_base = stream.time_base  # left out of what a decoder held back to the end
                if self._demuxer == "avi":
                    decoded.pts = decoded.dts  # it counts packets, which are not in the order of being shown
                if not count:
                    upright, size = orientation(decoded), (decoded.width, decoded.height)
                    self._start_s = Fraction(0) if self._demuxer == "avi" else _time(decoded) or Fraction(0)
                self.truncated |= decoded.is_corrupt
                time_s, count = clock.after(decoded), count + 1
                yield Frame(turned(rgb(decoded, size, reformatter), upright), time_s)
        if self._demuxer == "matroska" and self._seconds is not None:  # it resumes after damage without a word
            self.truncated |= time_s + _LONGEST_LAST_FRAME_S < self._seconds

    def audio(self) -> SourceAudio | None:
        """The first audio stream, in a container of its own that the caller closes."""
        container = _opened(self._data, self._demuxer, self._limits)
        if container.streams.audio:
            return SourceAudio(container, container.streams.audio[0], self._start_s, Fraction(self._shown_s or 0))
        container.close()
        return None

    def packet_bytes(self) -> list[int]:
        """How many bytes each packet has, in the order of the file; those after damage are left out."""
        found = list[int]()
        with _opened(self._data, self._demuxer, self._limits) as container, suppress(av.FFmpegError, OSError):
            found.extend(packet.size for packet in container.demux(_video_stream(container)) if packet.size)
        return found

    def _decoded(self, container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
        decoder, packets = _decoder(stream, self._limits), 0
        expected = len(stream.index_entries) if self._demuxer == "mov" else 0  # others index some frames, or none
        try:
            for packet in container.demux(stream):
                self.truncated |= packet.is_corrupt
                packets += 1
                if packet.size:  # an empty one would tell the decoder that the video is over
                    yield from self._of(decoder, packet)
        except (av.FFmpegError, OSError):  # the file breaks off here
            self.truncated = True
        yield from self._of(decoder, None)
        self.truncated |= packets <= expected  # the last one says that there are no more

    def _of(self, decoder: VideoCodecContext, packet: "Packet[VideoStream] | None") -> list[VideoFrame]:
        try:
            frames = decoder.decode(packet)
        except (av.FFmpegError, OSError):  # a damaged packet; those after it may be whole
            self.truncated = True
            return []
        for frame in frames:
            self._limits.check_size(frame.width, frame.height)
        return frames


class _Clock:
    """Times from 0.0, strictly increasing, whatever the file says."""

    def __init__(self, period: Fraction) -> None:
        self._period = period
        self._origin: Fraction | None = None
        self._last: Fraction | None = None

    def after(self, frame: VideoFrame) -> float:
        """The time of the next frame, in seconds."""
        due = Fraction(0) if self._last is None else self._last + self._period
        given = _time(frame)
        if self._origin is None and given is not None:
            self._origin = given - due
        time = due if given is None or self._origin is None else given - self._origin
        if self._last is not None and time <= self._last:
            time = self._last + self._period / 2  # so that the next one, if it is in time, is not late
        self._last = time
        return float(time)


def _time(frame: VideoFrame) -> Fraction | None:
    return None if frame.pts is None or frame.time_base is None else frame.pts * frame.time_base


def _video_stream(container: InputContainer) -> VideoStream:
    """The first video stream that is not a cover picture.

    Raises:
        InvalidInput: there is none, or its codec is not read.
    """
    for stream in container.streams.video:
        if stream.disposition & Disposition.attached_pic:
            continue
        codec: VideoCodecContext | None = stream.codec_context
        if codec is None or codec.name not in VIDEO_DECODERS:
            raise InvalidInput("the video's codec is not read; send H.264, HEVC, VP8, VP9, AV1 or MPEG-4")
        if not stream.width or not stream.height:
            raise InvalidInput("the video is damaged, or much too large; send H.264 of a usual size")
        return stream
    raise InvalidInput("the file has no video stream; send a video with pictures")


def _decoder(stream: VideoStream, limits: VideoLimits) -> VideoCodecContext:
    decoder = stream.codec_context
    if stream.metadata.get("alpha_mode") == "1" and decoder.name in ("vp8", "vp9"):
        # FFmpeg's own decoders leave the alpha of a WebM aside, and show what lies beneath it.
        name: Literal["libvpx", "libvpx-vp9"] = "libvpx-vp9" if decoder.name == "vp9" else "libvpx"
        decoder = CodecContext.create(name, "r")
        decoder.extradata = stream.codec_context.extradata
    decoder.thread_type = "AUTO"
    decoder.options = {"max_pixels": str(limits.max_pixels_decoded)}  # the header may have said less
    return decoder


def _seconds(container: InputContainer, stream: VideoStream) -> float | None:
    """How long the pictures last by the header; Matroska says it in a tag, or for the file as a whole only."""
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    try:
        hours, minutes, seconds = stream.metadata.get("DURATION", "").split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    except ValueError:
        return None if container.duration is None else container.duration / av.time_base
