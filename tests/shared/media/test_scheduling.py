"""An encoder that would have the cores for itself."""

import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from shared.media.encoding import Encoding
from shared.media.video_writer import VideoWriter

AS_ITS_CHILDREN = "import os; print(os.sched_getscheduler(0))"


def policies() -> set[int]:
    """Of every thread of this process."""
    return {os.sched_getscheduler(int(task.name)) for task in Path("/proc/self/task").iterdir()}


@pytest.mark.skipif(sys.platform != "linux", reason="the policies are Linux's")
def test_av1_leaves_the_threads_of_this_process_as_they_were() -> None:
    before = policies()
    with VideoWriter(64, 64, Fraction(24), Encoding("mp4", "av1")) as writer:
        writer.write(np.zeros((64, 64, 3), np.uint8))
        assert policies() == before
        child = subprocess.run([sys.executable, "-c", AS_ITS_CHILDREN], capture_output=True, text=True, check=True)
    writer.finish()
    assert policies() == before
    assert int(child.stdout) in before
