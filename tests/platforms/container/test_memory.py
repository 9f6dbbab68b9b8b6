"""Large answers one after the other, without a page fault for each of their pages."""

import subprocess
import sys

import pytest

FAULTS = """
import resource
from platforms.container.memory import keep_freed_memory
if {kept}:
    keep_freed_memory()
def answer():
    return b"".join([bytes(2**20), bytes(2**20)])
answer()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(100):
    answer()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(*, kept: bool) -> int:
    done = subprocess.run(
        [sys.executable, "-c", FAULTS.format(kept=kept)], check=True, capture_output=True, text=True
    )
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_freed_memory_is_used_again() -> None:
    assert faults(kept=True) < 1000 < 10_000 < faults(kept=False)
