"""Streaming over a slow network: our worker and the SDK's plain generator, on the same endpoint, in one run.

make bench
python -m bench.streaming --json figures.json
"""

import argparse
import asyncio
import json
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Column, Table

from bench.slow_network import HOST
from platforms.local.up import LocalEndpoint
from platforms.local.workers import ROOT, WORKER_COMMAND
from shared.job import Piece
from shared.jobs.client import Client
from shared.jobs.pieces import Pieces

HANDLERS = Path(__file__).parent / "handlers"
PLAIN = (sys.executable, str(Path(__file__).parent / "plain_stream.py"))
RATE = 200
TOKENS = 1000
PLAIN_TOKENS = 200  # it takes up to seventeen times as long
DELAYS_MS = (0, 20, 50, 80)
POSTS_ALLOWED = 3
SHARE_ALLOWED = 0.02
HAND_OVER_BAR_US = 6.6  # what the best of the peers' serving layers takes for a chunk


@dataclass(frozen=True)
class Figures:
    """One text over one network, in seconds; a generator that waits for its posts makes its tokens late."""

    worker: str
    post_ms: float
    tokens: int
    made_in: float
    start_to_done: float
    first_piece: float
    median_token: float
    posts: int

    @property
    def local(self) -> float:
        """What the tokens take where nothing is posted."""
        return self.tokens / RATE

    @property
    def allowed(self) -> float:
        """From the handler's start to job-done, by the bar."""
        return self.local * (1 + SHARE_ALLOWED) + POSTS_ALLOWED * self.post_ms / 1000


def measure(worker: str, command: Sequence[str], network: int, *, post_ms: float, tokens: int) -> Figures:
    """Stream one text, each post delayed, and read the endpoint's own record of its end."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        (data / "models.json").write_text("[]")
        port = _free_port()
        slow = f"http://{HOST}:{network}/{post_ms:g}/{port}/v2/media"
        env = {
            "HANDLERS": str(HANDLERS),
            "MODELS": str(data / "models.json"),
            "PIPELINE": "pace",
            "RUNPOD_WEBHOOK_POST_OUTPUT": f"{slow}/job-done/$RUNPOD_POD_ID/$ID?gpu=LOCAL",
            "RUNPOD_WEBHOOK_POST_STREAM": f"{slow}/job-stream/$RUNPOD_POD_ID/$ID?gpu=LOCAL",
        }
        with (
            LocalEndpoint(data / "data", env=env, command=command, port=port) as endpoint,
            Client(endpoint.url, "media", endpoint.key) as client,
        ):
            list(client.stream(client.submit({"tokens": 1, "rate": RATE})))  # connections are open from now on
            job = client.submit({"tokens": tokens, "rate": RATE})
            heard = [(time.time(), str(piece)) for piece in client.stream(job)]
            done = _ended_at(data / "data" / "media" / "jobs.sqlite3", job)
    return _figures(worker, post_ms, tokens, heard, done)


def _figures(worker: str, post_ms: float, tokens: int, heard: list[tuple[float, str]], done: float) -> Figures:
    started, *made = [float(t) for _, piece in heard for t in piece.split()]
    if len(made) != tokens or made != sorted(made):
        raise AssertionError(f"{worker}: {len(made)} tokens of {tokens} arrived, or not in their order")
    times = [[float(t) for t in piece.split()] for _, piece in heard]
    late = [when - t for (when, _), ts in zip(heard, times, strict=True) for t in ts if t != started]
    return Figures(
        worker=worker,
        post_ms=post_ms,
        tokens=tokens,
        made_in=made[-1] - started,
        start_to_done=done - started,
        first_piece=heard[0][0] - made[0],
        median_token=median(late),
        posts=len(heard) + 1,
    )


def _ended_at(database: Path, job_id: str) -> float:
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as db:
        return float(db.execute("SELECT ended_at FROM jobs WHERE id = ?", (job_id,)).fetchone()[0])


def _free_port() -> int:
    with socket.socket() as free:
        free.bind((HOST, 0))
        return int(free.getsockname()[1])


@contextmanager
def slow_network() -> Iterator[int]:
    """The port of a process that posts go through."""
    command = (sys.executable, "-m", "bench.slow_network")
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None  # noqa: S101 it is a pipe
        try:
            yield int(process.stdout.readline())
        finally:
            process.terminate()


def hand_over_us(pieces: int = 200_000) -> float:
    """Microseconds that a piece takes from a thread to the event loop, where nothing else runs."""

    async def run() -> float:
        ours, heard = Pieces(), 0
        loop = asyncio.get_running_loop()

        def emit() -> None:
            piece = Piece("token ")
            for _ in range(pieces):
                ours.push(piece)
            loop.call_soon_threadsafe(ours.end)

        thread = threading.Thread(target=emit)
        begun = time.perf_counter()
        thread.start()
        while text := await ours.next():
            heard += len(text)
        seconds = time.perf_counter() - begun
        thread.join()
        if heard != pieces * len("token "):
            raise AssertionError("a piece was lost")
        return seconds / pieces * 1e6

    return asyncio.run(run())


def main() -> None:
    """Print the table, and write it where `--json` says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    args = parser.parse_args()
    hand_over = hand_over_us()
    figures = []
    with slow_network() as network:
        for post_ms in DELAYS_MS:
            for worker, command, tokens in (
                ("pilotlight", WORKER_COMMAND, TOKENS),
                ("plain SDK", PLAIN, PLAIN_TOKENS),
            ):
                figures.append(measure(worker, command, network, post_ms=post_ms, tokens=tokens))
    _print(figures, hand_over)
    if args.json:
        rows = [{**asdict(f), "local": f.local, "allowed": f.allowed} for f in figures]
        args.json.write_text(json.dumps({"hand_over_us": hand_over, "streams": rows}, indent=1))


def _print(figures: list[Figures], hand_over: float) -> None:
    table = Table(
        "POST",
        Column("worker", no_wrap=True),
        "tokens",
        "to done",
        "allowed",
        "x local",
        "posts",
        "first piece",
        title=f"{RATE} tokens/s from handler start; allowed: local + {POSTS_ALLOWED} POSTs + {SHARE_ALLOWED:.0%}",
    )
    for f in figures:
        table.add_row(
            f"+{f.post_ms:g} ms",
            f.worker,
            str(f.tokens),
            f"{f.start_to_done:.2f} s",
            f"{f.allowed:.2f} s",
            f"{f.start_to_done / f.local:.2f}",
            str(f.posts),
            f"{f.first_piece * 1000:.0f} ms",
        )
    console = Console()
    console.print(table)
    console.print(
        f"From the device's thread to the event loop: {hand_over:.2f} us a piece (bar {HAND_OVER_BAR_US} us)."
    )


if __name__ == "__main__":
    main()
