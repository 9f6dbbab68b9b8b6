"""The baseline of streaming: RunPod's SDK as it comes, with an asynchronous generator that yields token by token."""

import asyncio
import time
from collections.abc import AsyncGenerator
from typing import Any

import runpod


async def handler(job: dict[str, Any]) -> AsyncGenerator[str, None]:
    """Each token at its time, as bench/handlers/pace.py emits them."""
    tokens, rate = job["input"]["tokens"], job["input"]["rate"]
    begun, started = time.perf_counter(), time.time()
    for n in range(1, tokens + 1):
        await asyncio.sleep(max(0.0, begun + n / rate - time.perf_counter()))
        yield f"{started:.6f} {time.time():.6f} " if n == 1 else f"{time.time():.6f} "


if __name__ == "__main__":
    runpod.serverless.start({"handler": handler, "return_aggregate_stream": True})
