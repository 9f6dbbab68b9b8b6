"""What the container adds to a job that does nothing, beside a bare FastAPI endpoint with the same answer.

Ours checks the parameters, queues, logs three or four lines, hashes its files and signs a receipt; the other one
has its answer in memory. "typed" is FastAPI where the endpoint declares its type, which pydantic then writes, and not
`json.dumps`; "hashed" is FastAPI where the endpoint hashes the file and its pixels too.

make bench
python -m bench.overhead --json figures.json
"""

import argparse
import base64
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import IO

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Column, Table

from bench.bare_server import HOST
from bench.keep_alive import Connection, Load, load, request
from platforms.local.workers import ROOT
from shared.settings import inherited

HANDLERS = Path(__file__).parent / "handlers"
SERVE = "from platforms.cli import app; app()"
# what a worker that makes pictures has imported: 400,000 objects more for the collector
HEAVY = "import torch, transformers; from diffusers import StableDiffusionPipeline; " + SERVE
START_S = 120
WIDTH = 132
COUNT = 1000
JSON, PNG = "application/json", "image/png"
ASKED = {"prompt": "x"}
BURST = {"pieces": COUNT, "stream": True}


@dataclass(frozen=True)
class Scenario:
    """One request, and what its figures must come to."""

    name: str
    ours: bytes
    bare: bytes
    figure: str
    bar: str
    value: Callable[[Load, Load], float]
    connections: int = 1
    is_heavy: bool = False


def _share_of_rate(ours: Load, bare: Load) -> float:
    return ours.rate / bare.rate


def _times_as_long(ours: Load, bare: Load) -> float:
    return ours.p50 / bare.p50


def _tail(ours: Load, bare: Load) -> float:
    return ours.p99 / ours.p50


def _piece_us(ours: Load, bare: Load) -> float:
    return ours.p50 / COUNT * 1e6


NOTHING = request("/nothing", ASKED, JSON)
PICTURE = request("/picture", ASKED, JSON)
FILE = request("/picture", ASKED, PNG)
PIECES = request("/burst", BURST, JSON)
SCENARIOS = (
    Scenario("small JSON", NOTHING, NOTHING, "rate", ">= 0.5", _share_of_rate),
    Scenario("small JSON, 8 at once", NOTHING, NOTHING, "rate", "", _share_of_rate, connections=8),
    Scenario("1 MiB of base64", PICTURE, PICTURE, "p50", "<= 0.7", _times_as_long),
    Scenario("1 MiB, typed endpoint", PICTURE, request("/typed", ASKED, JSON), "p50", "", _times_as_long),
    Scenario("the file itself", FILE, request("/raw", ASKED, PNG), "p50", "<= 1.3", _times_as_long),
    Scenario("the file, hashed by both", FILE, request("/hashed", ASKED, PNG), "p50", "", _times_as_long),
    Scenario(f"{COUNT:,} pieces", PIECES, PIECES, "us a piece", "<= 10", _piece_us),
    Scenario("small JSON, torch there", NOTHING, NOTHING, "p99 / p50", "<= 3", _tail, is_heavy=True),
)


class Server:
    """One process on loopback."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int) -> None:
        self.port, self.pid = port, process.pid


@contextmanager
def started(command: Sequence[str], log: IO[bytes], env: Mapping[str, str], given: bytes = b"") -> Iterator[Server]:
    """A server that listens, with `{port}` filled into its command; ended afterwards."""
    port = _free_port()
    with subprocess.Popen(
        [part.format(port=port) for part in command],
        cwd=ROOT,
        env=inherited(**env),
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=log,
    ) as process:
        try:
            assert process.stdin is not None  # noqa: S101 it is a pipe
            process.stdin.write(given)
            process.stdin.close()
            _wait_for(process, port, Path(log.name))
            yield Server(process, port)
        finally:
            process.terminate()


def _wait_for(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    until = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < until:
        try:
            with Connection(port, NOTHING) as connection:
                connection.ask()
                return
        except OSError:
            time.sleep(0.1)
    raise TimeoutError(f"{process.args!r} does not answer:\n{log.read_text()[-2000:]}")


@contextmanager
def servers(folder: Path, *, is_heavy: bool) -> Iterator[tuple[Server, Server]]:
    """Our container, and the bare endpoint with the same answers."""
    (folder / "models.json").write_text("[]")
    env = {
        "HANDLERS": str(HANDLERS),
        "MODELS": str(folder / "models.json"),
        "RECEIPT_KEY": base64.b64encode(os.urandom(32)).decode(),
        "DEVICE": "cpu",
    }
    container = (sys.executable, "-c", HEAVY if is_heavy else SERVE, "serve", "--port", "{port}")
    with (folder / "log").open("wb") as log, started(container, log, env) as ours:
        with Connection(ours.port, NOTHING) as nothing, Connection(ours.port, PICTURE) as picture:
            answers = {"nothing": json.loads(nothing.ask()), "picture": json.loads(picture.ask())}
        bare = (sys.executable, "-m", "bench.bare_server", "{port}")
        with started(bare, log, {}, json.dumps(answers).encode()) as theirs:
            yield ours, theirs


@dataclass(frozen=True)
class Figures:
    """What a scenario came to: medians over the rounds."""

    scenario: str
    figure: str
    bar: str
    value: float
    rates: tuple[float, float]
    p50_ms: tuple[float, float]
    p99_ms: tuple[float, float]
    cpu_ms: tuple[float, float]
    bytes: tuple[int, int]


def measure(scenario: Scenario, ours: Server, bare: Server, rounds: int, seconds: float) -> Figures:
    """Both servers in turn, so that what else the machine does meets both."""
    pairs = [
        (
            load(ours.port, ours.pid, scenario.ours, connections=scenario.connections, seconds=seconds),
            load(bare.port, bare.pid, scenario.bare, connections=scenario.connections, seconds=seconds),
        )
        for _ in range(rounds)
    ]

    def of_both(figure: Callable[[Load], float]) -> tuple[float, float]:
        return median(figure(one) for one, _ in pairs), median(figure(other) for _, other in pairs)

    return Figures(
        scenario=scenario.name,
        figure=scenario.figure,
        bar=scenario.bar,
        value=median(scenario.value(one, other) for one, other in pairs),
        rates=of_both(lambda load: load.rate),
        p50_ms=of_both(lambda load: load.p50 * 1000),
        p99_ms=of_both(lambda load: load.p99 * 1000),
        cpu_ms=of_both(lambda load: load.cpu_s / len(load.seconds) * 1000),
        bytes=(pairs[0][0].size, pairs[0][1].size),
    )


def _free_port() -> int:
    with socket.socket() as free:
        free.bind((HOST, 0))
        return int(free.getsockname()[1])


def main() -> None:
    """Print the table, and write it where `--json` says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each server (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each turn (default: %(default)s)")
    parser.add_argument("--only", default="", help="scenarios whose name holds this")
    args = parser.parse_args()
    figures: list[Figures] = []
    for is_heavy in (False, True):
        chosen = [s for s in SCENARIOS if s.is_heavy == is_heavy and args.only in s.name]
        if not chosen:
            continue
        with tempfile.TemporaryDirectory() as folder, servers(Path(folder), is_heavy=is_heavy) as (ours, bare):
            figures += [measure(scenario, ours, bare, args.rounds, args.seconds) for scenario in chosen]
    _print(figures)
    if args.json:
        args.json.write_text(json.dumps([asdict(f) for f in figures], indent=1))


def _print(figures: list[Figures]) -> None:
    table = Table(
        "scenario",
        "what counts",
        Column("reached", style="bold"),
        "bar",
        "requests/s",
        "p50 ms",
        "p99 ms",
        "CPU ms",
        title="The container / a bare FastAPI endpoint with the same answer",
        box=SIMPLE,
    )
    for f in figures:
        pairs = ((f.rates, ".0f"), (f.p50_ms, ".2f"), (f.p99_ms, ".2f"), (f.cpu_ms, ".2f"))
        shown = [f"{ours:{form}} / {bare:{form}}" for (ours, bare), form in pairs]
        table.add_row(f.scenario, f.figure, f"{f.value:.2f}", f.bar, *shown)
    Console(width=WIDTH).print(table)


if __name__ == "__main__":
    main()
