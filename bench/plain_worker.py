"""The baseline: RunPod's SDK as it comes, with the handler of its documentation."""

import time
from typing import Any

import runpod


def handler(job: dict[str, Any]) -> dict[str, Any]:
    """Hold the device for `ms` milliseconds."""
    started = time.time()
    time.sleep(job["input"]["ms"] / 1000)
    return {"started": started, "ended": time.time()}


if __name__ == "__main__":
    runpod.serverless.start({"handler": handler})
