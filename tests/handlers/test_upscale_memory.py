"""The memory of a long upscale is bounded by its tiles and batches, not by its length."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
MOST_BYTES = 50_000_000  # between a short and a long video

# A process of its own, since its peak counts. The encoder looks 40 frames ahead, which the short video must fill too.
ENLARGE = """
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from handlers.upscale import UpscaleParams, handler, load
from shared.device import Device, peak_rss_bytes
from shared.media.video import VideoInput
from shared.media.video_file import VideoFile, VideoLimits
from shared.media.video_writer import Encoding, VideoWriter
from shared.models.esrgan import SRVGGNetCompact
from shared.schemas import ModelSource
from tests.shared.models.recorder import Recorder

FAST = Encoding("mp4", "h264", 30)
torch.set_num_threads(1)
torch.manual_seed(0)
file = Path(sys.argv[1]) / "network.safetensors"
save_file(SRVGGNetCompact(features=8, convolutions=1, scale=2).state_dict(), file)
model = load(ModelSource("some/network", "main", file), Device("cpu"))
frame = np.random.default_rng(0).integers(0, 256, (180, 320, 3), np.uint8)

class Writing(Recorder):
    def video(self, width, height, fps, **more):
        self.writer = VideoWriter(width, height, fps, FAST)
        return self.writer

for frames in (48, 144):
    drawn = VideoWriter(320, 180, Fraction(24), FAST)
    for k in range(frames):
        drawn.write(np.roll(frame, k, 1))
    given, ctx = VideoInput(VideoFile(drawn.finish().data, VideoLimits(10**6, 1000, 100))), Writing()
    handler.run(model, UpscaleParams(video=given), ctx)
    assert ctx.writer.finish().frames == frames
    print(len(ctx.steps), peak_rss_bytes())
"""


def test_three_times_as_many_frames_take_no_more_memory(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ENLARGE, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    short, after_short, long, after_long = map(int, done.stdout.split())
    assert (short, long) == (48, 144)
    assert after_long - after_short < MOST_BYTES
