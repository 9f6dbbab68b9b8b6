"""The sound of one video, carried over into another."""

from collections.abc import Generator, Iterator
from fractions import Fraction
from typing import Literal

import av
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.packet import Packet

from shared.errors import InvalidInput
from shared.media.encoding import VideoFormat
from shared.media.footage import AUDIO_DECODERS, SourceAudio, audio_codec_of

_COPIED: dict[VideoFormat, tuple[str, ...]] = {
    "mp4": ("aac", "mp3", "mp3float", "opus", "libopus"),
    "webm": ("opus", "libopus", "vorbis"),
}
_ENCODERS: dict[VideoFormat, Literal["aac", "libopus"]] = {"mp4": "aac", "webm": "libopus"}
_OPUS_RATE = 48_000
_AAC_RATES = (48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000)
_BIT_RATE = 160_000


def check_sound(codec: str | None) -> None:
    """Whether the sound of a video (`VideoInfo.audio_codec`) can be carried over; None for a silent one.

    Raises:
        InvalidInput: it cannot.
    """
    if codec not in (None, *AUDIO_DECODERS):
        raise InvalidInput("the sound of the video is in a codec that is not read; send AAC, MP3, Opus or none")


class AudioTrack:
    """A stream in the new container, filled from the source as the pictures advance.

    Copied packet by packet where the container takes the codec, encoded anew (AAC in MP4, Opus in WebM) elsewhere.
    """

    def __init__(self, container: OutputContainer, source: SourceAudio, video_format: VideoFormat) -> None:
        """Add the stream; the container's header is not written yet.

        Raises:
            InvalidInput: the sound can be neither copied nor decoded.
        """
        name = audio_codec_of(source.stream)
        check_sound(name)
        self._container, self._source = container, source
        if name in _COPIED[video_format]:
            self._stream = container.add_stream_from_template(source.stream)
            self._packets = self._copied()
        else:
            self._stream = _encoder(container, source.stream, _ENCODERS[video_format])
            self._packets = self._encoded()
        self._next: Packet[AudioStream] | None = None

    def advance(self, until_s: Fraction) -> None:
        """Write what is over by that time of the new video."""
        while (packet := self._next or next(self._packets, None)) and _span(packet)[1] <= until_s:
            self._write(packet)
        self._next = packet

    def finish(self, end_s: Fraction) -> None:
        """Write the rest, cut where the pictures of the new video end, or those of the source if they last longer."""
        end_s = max(end_s, self._source.pictures_s)
        while (packet := self._next or next(self._packets, None)) and _span(packet)[0] < end_s:
            begins, ends = _span(packet)
            packet.duration = int((min(ends, end_s) - begins) / packet.time_base)
            self._write(packet)

    def close(self) -> None:
        """Let go of the source."""
        self._packets.close()
        self._source.container.close()

    def _copied(self) -> "Generator[Packet[AudioStream], None, None]":
        for packet in self._demuxed():
            if packet.pts is None:
                continue
            packet.pts = packet.dts = packet.pts - round(self._source.start_s / packet.time_base)
            packet.stream = self._stream
            yield packet

    def _encoded(self) -> "Generator[Packet[AudioStream], None, None]":
        context = self._stream.codec_context
        resampler = AudioResampler(context.format, context.layout, context.rate, context.frame_size)
        late = round(self._source.start_s * context.rate)
        for frame in self._frames():
            for piece in resampler.resample(frame):
                piece.pts = None if piece.pts is None else piece.pts - late
                yield from self._stream.encode(piece)
        for piece in resampler.resample(None):
            yield from self._stream.encode(piece)
        yield from self._stream.encode(None)

    def _write(self, packet: "Packet[AudioStream]") -> None:
        self._next = None
        if _span(packet)[1] >= 0:  # one that ends as the video starts prepares the decoder for the next
            self._container.mux(packet)

    def _demuxed(self) -> "Generator[Packet[AudioStream], None, None]":
        try:
            yield from (packet for packet in self._source.container.demux(self._source.stream) if packet.size)
        except (av.FFmpegError, OSError):  # the file breaks off here, and the sound ends with it
            return

    def _frames(self) -> Iterator[AudioFrame]:
        for packet in self._demuxed():
            try:
                frames = self._source.stream.codec_context.decode(packet)
            except (av.FFmpegError, OSError):  # a damaged packet; those after it may be whole
                continue
            yield from frames


def _encoder(container: OutputContainer, source: AudioStream, name: Literal["aac", "libopus"]) -> AudioStream:
    rate = _OPUS_RATE if name == "libopus" or source.rate not in _AAC_RATES else source.rate
    stream = container.add_stream(name, rate=rate)
    stream.bit_rate = _BIT_RATE
    stream.layout = "mono" if source.channels == 1 else "stereo"
    return stream


def _span(packet: "Packet[AudioStream]") -> tuple[Fraction, Fraction]:
    """When a packet begins and ends, in seconds."""
    begins = (packet.pts or 0) * packet.time_base
    return begins, begins + (packet.duration or 0) * packet.time_base
