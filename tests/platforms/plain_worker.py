"""The simplest RunPod worker: the SDK as it is, with a plain handler."""

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import runpod


async def handler(job: dict[str, Any]) -> Any:
    """Sleep, wait, report, fail or die as the input says, and echo it."""
    job_input = job["input"]
    if ran := job_input.get("ran_file"):
        with Path(ran).open("a") as out:
            out.write(f"{job['id']}\n")
    if "progress" in job_input:
        runpod.serverless.progress_update(job, job_input["progress"])
    if "block_s" in job_input:
        time.sleep(job_input["block_s"])
    await asyncio.sleep(job_input.get("sleep_s", 0))
    while "gate" in job_input and not Path(job_input["gate"]).exists():
        await asyncio.sleep(0.01)
    if job_input.get("die"):
        os.abort()
    if "raise" in job_input:
        raise ValueError(job_input["raise"])
    return job_input.get("answer", {"echo": job_input})


if __name__ == "__main__":
    runpod.serverless.start({"handler": handler})
