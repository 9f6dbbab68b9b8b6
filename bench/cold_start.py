"""A worker's start, from its process to its first job-take, against a script that only loads the same model.

make bench
python -m bench.cold_start --json figures.json
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from typing import IO

from rich.console import Console
from rich.table import Table

from platforms.local.server import HOST
from platforms.local.workers import ROOT, WORKER_COMMAND, worker_env
from shared.models.store import DEMO_MODELS
from shared.settings import inherited

HERE = Path(__file__).parent
MODEL = str(DEMO_MODELS / "text-to-image")
PLAIN = (sys.executable, str(HERE / "plain_load.py"), MODEL)
NAIVE = (sys.executable, str(HERE / "naive_worker.py"), MODEL)
IMAGES = {"PIPELINE": "text-to-image", "MODEL_ID": "demo/text-to-image"}
TEXT = {"PIPELINE": "text-generation", "MODEL_ID": "demo/text-generation"}
RUNS = 5
BAR = 1.05
LONGEST_START_S = 300.0


@dataclass
class Figures:
    """The starts of one command: seconds to its sign of life, and of CPU until then."""

    name: str
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


class Takes:
    """A loopback endpoint without jobs; `first` is set when a worker asks it for one."""

    def __init__(self) -> None:
        self.first = threading.Event()
        took = self.first

        class Answers(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if "/job-take" in self.path:
                    took.set()
                self.send_response(200 if "/ping/" in self.path else 204)
                self.end_headers()

            def log_message(self, *args: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer((HOST, 0), Answers)
        self.url = f"http://{HOST}:{self.server.server_address[1]}/v2/media"


@contextmanager
def endpoint() -> Iterator[Takes]:
    """An endpoint that serves for as long as the block runs."""
    takes = Takes()
    thread = threading.Thread(target=takes.server.serve_forever)
    thread.start()
    try:
        yield takes
    finally:
        takes.server.shutdown()
        thread.join()
        takes.server.server_close()


def start_script(command: Sequence[str]) -> tuple[float, float]:
    """Seconds until the script writes a line, and seconds of CPU."""

    def wrote(out: IO[bytes]) -> bool:
        return bool(out.readline())

    return _started(command, inherited(), wrote)


def start_worker(command: Sequence[str], env: Mapping[str, str]) -> tuple[float, float]:
    """Seconds until the worker asks for its first job, and seconds of CPU."""
    with endpoint() as takes, tempfile.TemporaryDirectory() as home:
        base = worker_env(inherited(), takes.url, "token", Path(home), ping_interval_ms=10_000, files=False)
        given = {**base, "RUNPOD_POD_ID": "cold", **env}
        return _started(command, given, lambda _: takes.first.wait(LONGEST_START_S))


def _started(
    command: Sequence[str], env: Mapping[str, str], lives: Callable[[IO[bytes]], bool]
) -> tuple[float, float]:
    with tempfile.TemporaryFile() as log:
        begun = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=ROOT, env=dict(env), stdout=subprocess.PIPE, stderr=log, start_new_session=True
        )
        assert process.stdout is not None  # noqa: S101 it is a pipe
        alive = lives(process.stdout)
        seconds = time.perf_counter() - begun
        os.killpg(process.pid, signal.SIGKILL)
        process.stdout.close()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if not alive:
            log.seek(0)
            raise RuntimeError(f"{command} did not start: {log.read()[-2000:].decode(errors='replace')}")
    return seconds, used.ru_utime + used.ru_stime


def measure(runs: int) -> list[Figures]:
    """All starts, interleaved, so that what else the machine does falls on all alike."""
    starts: dict[str, Callable[[], tuple[float, float]]] = {
        "script: diffusers, from_pretrained": lambda: start_script(PLAIN),
        "pilotlight": lambda: start_worker(WORKER_COMMAND, IMAGES),
        "naive SDK worker": lambda: start_worker(NAIVE, {}),
        "pilotlight, text": lambda: start_worker(WORKER_COMMAND, TEXT),
    }
    figures = {name: Figures(name) for name in starts}
    for number in range(-1, runs):
        for name, start in starts.items():
            wall, cpu = start()
            if number >= 0:  # the first round fills the page cache
                figures[name].wall.append(wall)
                figures[name].cpu.append(cpu)
    return list(figures.values())


def main() -> None:
    """Print the table, and write it where `--json` says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    parser.add_argument("--runs", type=int, default=RUNS, help="starts of each (default: %(default)s)")
    args = parser.parse_args()
    before = os.getloadavg()[0]
    figures = measure(args.runs)
    _print(figures, before)
    if args.json:
        args.json.write_text(json.dumps({"load_before": before, "starts": [asdict(f) for f in figures]}, indent=1))


def _print(figures: list[Figures], load: float) -> None:
    table = Table(
        "start", "median", "fastest", "CPU", "x script", title=f"Cold start, medians of {len(figures[0].wall)}"
    )
    script = median(figures[0].wall)
    for f in figures:
        wall = median(f.wall)
        table.add_row(
            f.name,
            f"{wall:.2f} s",
            f"{min(f.wall):.2f} s",
            f"{median(f.cpu):.2f} s",
            f"{wall / script:.2f}",
        )
    console = Console()
    console.print(table)
    console.print(f"Bar: {BAR} times the script. Load of the machine before the first start: {load:.1f}.")


if __name__ == "__main__":
    main()
