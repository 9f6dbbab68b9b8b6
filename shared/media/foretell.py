"""How large a video will become, foretold from its first frames before anything is computed."""

from itertools import islice

from PIL import Image

from shared.media.video import VideoParams
from shared.media.video_file import VideoFile
from shared.media.video_writer import Encoding, VideoWriter

FEW, MORE = 4, 12  # frames that are encoded on trial


def video_bytes(video: VideoFile, scale: float, params: VideoParams) -> int:
    """Bytes of the video when each frame is enlarged by `scale`, without its sound.

    What a network adds in detail, or in frames between them, comes on top; a video that grows still takes less.
    """
    frames = [_enlarged(Image.fromarray(frame.pixels), scale) for frame in islice(video.frames(), MORE)]
    encoding = params.encoding()
    trial = _encoded_bytes(frames, video, encoding)
    if len(frames) < MORE:
        return trial
    each = (trial - _encoded_bytes(frames[:FEW], video, encoding)) / (MORE - FEW)
    return trial + int(each * (_length(video) - MORE))


def _enlarged(frame: Image.Image, scale: float) -> Image.Image:
    return frame.resize((round(frame.width * scale), round(frame.height * scale)), Image.Resampling.BICUBIC)


def _encoded_bytes(frames: list[Image.Image], video: VideoFile, encoding: Encoding) -> int:
    import numpy as np

    writer = VideoWriter(frames[0].width, frames[0].height, video.info.fps, encoding)
    for frame in frames:
        writer.write(np.asarray(frame))
    return len(writer.finish().data)


def _length(video: VideoFile) -> int:
    """Frames as the header says; where it says nothing, those that are certain."""
    info = video.info
    if info.frames:
        return info.frames
    return max(MORE, int((info.seconds or 0) * info.fps))
