"""Seconds and bytes of writing a video beside the work that makes it, against writing it in between."""

import tempfile
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from shared.media.frames import Pixels
from shared.media.video_writer import Encoding, VideoWriter

WIDTH, HEIGHT, FRAMES, FPS, REPEAT = 576, 1024, 49, Fraction(24), 3


def texture(number: int, noise: Pixels) -> Pixels:
    """A moving picture with grain."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    smooth = [110 + 60 * np.sin((x + a * y) / 37 + number / 6 + a) for a in (0.5, 1.0, -0.7)]
    return (np.stack(smooth, axis=-1) + np.roll(noise, 7 * number, axis=1)[..., None]).astype(np.uint8)


def ours(pictures: list[Pixels], work_s: float) -> int:
    """Bytes of the file; encoded in the writer's thread."""
    writer = VideoWriter(WIDTH, HEIGHT, FPS, Encoding("mp4"))
    for picture in pictures:
        time.sleep(work_s)
        writer.write(picture)
    return len(writer.finish().data)


def loop(pictures: list[Pixels], work_s: float) -> int:
    """Bytes of the file; encoded by PyAV in the thread of the work."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video.mp4"
        with av.open(str(path), "w", container_options={"movflags": "+faststart"}) as container:
            stream = container.add_stream("libx264", rate=FPS, options={"crf": "18", "preset": "veryfast"})
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            for picture in pictures:
                time.sleep(work_s)
                frame = av.VideoFrame.from_ndarray(picture).reformat(format="yuv420p", dst_colorspace="ITU709")
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return path.stat().st_size


def main() -> None:
    """Print a line for each way, without work between the frames and with some."""
    noise = np.random.default_rng(0).integers(0, 24, (HEIGHT, WIDTH), np.uint8)
    pictures = [texture(number, noise) for number in range(FRAMES)]
    for work_s in (0.0, 0.02):
        seconds = []
        for way in (ours, loop):
            runs = []
            for _ in range(REPEAT):
                begun = time.perf_counter()
                size = way(pictures, work_s)
                runs.append(time.perf_counter() - begun)
            seconds.append(min(runs))
            print(f"{work_s * 1000:3.0f} ms a frame  {way.__name__:5} {seconds[-1]:6.2f} s  {size / 1000:6.0f} kB")
        print(f"{work_s * 1000:3.0f} ms a frame  ratio {seconds[0] / seconds[1]:6.2f}")


if __name__ == "__main__":
    main()
