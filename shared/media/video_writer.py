"""Pictures of one size, made into a video file beside the work that makes them."""

import errno
import hashlib
import os
import queue
import tempfile
import threading
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from types import TracebackType
from typing import BinaryIO, Self

import av
from av.container import OutputContainer

from shared.errors import Internal, ResultTooLarge
from shared.media.audio import AudioTrack
from shared.media.encoding import (
    LOSSLESS,
    MEDIA_TYPES,
    Encoding,
    VideoCodec,
    VideoFormat,
    encoder_into,
    kept_rate,
    padding,
)
from shared.media.frames import Pixels
from shared.media.scheduling import ordinary_scheduling
from shared.media.sizes import in_words
from shared.media.video_file import VideoFile

__all__ = ["LOSSLESS", "EncodedVideo", "Encoding", "VideoCodec", "VideoFormat", "VideoWriter"]

_WAITING = 8  # frames between the work and the encoder
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.ENOENT)


@dataclass(frozen=True)
class EncodedVideo:
    """A finished file. `pixels_sha256` is of `RGB {width}x{height}\\n` and all frames as they were given."""

    data: bytes
    media_type: str
    extension: str
    frames: int
    width: int
    height: int
    fps: Fraction
    pixels_sha256: str


class VideoWriter:
    """Writes frames at a constant rate; encodes in a thread of its own, up to 8 frames behind.

    H.264 in 4:2:0 has even sides only: an odd size gets its last column or row twice, and `EncodedVideo` says the
    size of the file. AV1 begins at 4 pixels; VP9 and GIF take every size.
    """

    def __init__(
        self,
        width: int,
        height: int,
        fps: Fraction,
        encoding: Encoding,
        *,
        audio: VideoFile | None = None,
        most_bytes: int | None = None,
    ) -> None:
        """Open the encoder and a temporary file.

        Args:
            width, height: of every frame, in pixels.
            fps: frames a second; kept exactly where both its terms are at most a million, else to 1/1001.
            encoding: format, codec and quality.
            audio: the video whose sound is carried over, from its start, as long as the pictures last; not in a gif.
            most_bytes: the file may not grow beyond.

        Raises:
            InvalidInput: the format does not hold the rate or the size, or the sound cannot be read.
            Internal: the temporary file cannot be written.
        """
        self.fps = kept_rate(fps)
        encoding.check_rate(self.fps)
        encoding.check_size(width, height)
        self.width, self.height, self.encoding = width, height, encoding
        self._most_bytes = most_bytes
        self._frames, self._given = 0, 0
        self._sha256 = hashlib.sha256(f"RGB {width}x{height}\n".encode("ascii"))
        self._track: AudioTrack | None = None
        self._error: BaseException | None = None
        self._dropped = False
        self._queue: queue.Queue[Pixels | None] = queue.Queue(_WAITING)
        self._file = _temporary_file()
        try:
            self._open(audio)
        except BaseException:
            self._clear()
            self._file.close()
            raise
        self._thread = threading.Thread(target=self._run, name="video-encoder", daemon=True)
        self._thread.start()

    def write(self, pixels: Pixels) -> None:
        """Add a frame: uint8 (height, width, 3), RGB; copied. Waits while 8 others do.

        Raises:
            ResultTooLarge: the file has grown beyond `most_bytes`.
            Internal: the file cannot be written.
            ValueError: another shape or type, or the video is finished already.
        """
        if pixels.shape != (self.height, self.width, 3) or pixels.dtype != "uint8":
            raise ValueError(f"a frame is uint8 ({self.height}, {self.width}, 3), not {pixels.dtype} {pixels.shape}")
        if not self._thread.is_alive():
            raise ValueError("the video is finished")
        self._check()
        self._queue.put(pixels.copy(order="C"))
        self._given += 1

    def finish(self) -> EncodedVideo:
        """Wait for the encoder, and take the file.

        Raises:
            ResultTooLarge, Internal: as `write` does.
            ValueError: no frame was written.
        """
        if not self._given:
            self.abort()
            raise ValueError("no frame was written to the video")
        try:
            self._end()
            self._check()
            self._file.seek(0)
            data = self._file.read()
        finally:
            self._close_file()
        columns, rows = padding(self.width, self.height, self.encoding)
        return EncodedVideo(
            data=data,
            media_type=MEDIA_TYPES[self.encoding.format],
            extension=self.encoding.format,
            frames=self._frames,
            width=self.width + columns,
            height=self.height + rows,
            fps=self.fps,
            pixels_sha256=self._sha256.hexdigest(),
        )

    def abort(self) -> None:
        """Drop everything: no thread and no file stay behind. Harmless after `finish`, and when repeated."""
        self._dropped = True
        self._end()
        self._close_file()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is left behind, unless the video is still to be finished."""
        if kind is not None:
            self.abort()

    def _open(self, audio: VideoFile | None) -> None:
        try:
            self._container = _container(self._file, self.fps, self.encoding.format)
            self._encoder = encoder_into(self._container, self.width, self.height, self.fps, self.encoding)
            source = audio.audio() if audio and self.encoding.format != "gif" else None
            if source:
                self._track = AudioTrack(self._container, source, self.encoding.format)
            with ordinary_scheduling():
                self._container.start_encoding()
        except OSError as exc:
            _blame_disk(exc)
            raise

    def _check(self) -> None:
        if isinstance(self._error, OSError):
            _blame_disk(self._error)
        if self._error is not None:
            raise self._error

    def _end(self) -> None:
        if self._thread.is_alive():
            self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        """The thread: goes on taking frames after an error, so that nobody waits for it."""
        try:
            while (pixels := self._queue.get()) is not None:
                if self._error is None and not self._dropped:
                    self._attempt(pixels)
            if self._error is None and not self._dropped:
                self._attempt(None)
        finally:
            self._clear()

    def _attempt(self, pixels: Pixels | None) -> None:
        try:
            if pixels is None:
                self._close()
            else:
                self._add(pixels)
            self._file.flush()
            size = os.fstat(self._file.fileno()).st_size
            if self._most_bytes is not None and size > self._most_bytes:
                raise _too_large(self._frames, self._most_bytes)
        except Exception as exc:  # noqa: BLE001 it belongs to who writes, and is raised there
            self._error = exc

    def _add(self, pixels: Pixels) -> None:
        self._sha256.update(pixels.data)
        self._container.mux(self._encoder.encode(pixels))
        self._frames += 1
        if self._track:
            self._track.advance(self._frames / self.fps)

    def _close(self) -> None:
        self._container.mux(self._encoder.rest())
        if self._track:
            self._track.finish(self._frames / self.fps)
        self._container.close()

    def _clear(self) -> None:
        """Close what writes into the file."""
        with suppress(av.FFmpegError, OSError, AttributeError):
            self._container.close()
        if self._track:
            self._track.close()

    def _close_file(self) -> None:
        with suppress(OSError):  # what could not be written before cannot be now
            self._file.close()


class _Again:
    """A second reader of a file that is being written, at a place of its own."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._at = file, 0

    def read(self, size: int) -> bytes:
        """The next bytes, of all that has been written."""
        self._file.flush()
        data = os.pread(self._file.fileno(), size, self._at)
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go on elsewhere."""
        begins = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: os.fstat(self._file.fileno()).st_size}
        self._at = begins[whence] + offset
        return self._at

    def tell(self) -> int:
        """Where it is."""
        return self._at


def _temporary_file() -> BinaryIO:
    """A file without a name: it goes with this process, however that ends."""
    try:
        return tempfile.TemporaryFile()
    except OSError as exc:
        _blame_disk(exc)
        raise


def _container(file: BinaryIO, fps: Fraction, video_format: VideoFormat) -> OutputContainer:
    """On disk, since an MP4's index can only be moved to its front by reading the file again."""
    options = {"gif": {"loop": "0"}, "webm": {}, "mp4": {}}[video_format]
    if video_format == "mp4":
        # A whole number of frames in the clock of the file as a whole too, which is in ms else.
        clock = fps.numerator * -(-1000 // fps.numerator)
        options = {"movflags": "+faststart", "movie_timescale": str(clock)}
    return av.open(
        file, "w", format=video_format, container_options=options, io_open=lambda url, flags, options: _Again(file)
    )


def _blame_disk(error: OSError) -> None:
    """Say so where the temporary folder is to blame; FFmpeg has errors of other kinds, which it is not to hide."""
    if error.errno in _NO_ROOM:
        raise Internal(
            "the video cannot be written to the worker's temporary folder: it is full, or read-only"
        ) from error


def _too_large(frames: int, most_bytes: int) -> ResultTooLarge:
    return ResultTooLarge(
        f"the video is larger than {in_words(most_bytes)} after {frames} frames, and nothing can carry it; "
        "ask for fewer frames, a smaller size or a higher crf, or send delivery.put with a presigned URL"
    )
