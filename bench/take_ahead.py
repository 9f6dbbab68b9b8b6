"""Time between jobs: our worker and the SDK's plain one, on the same endpoint, in one run.

make bench
python -m bench.take_ahead --json figures.json
"""

import argparse
import json
import sqlite3
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from platforms.local.up import LocalEndpoint
from platforms.local.workers import WORKER_COMMAND
from shared.jobs.client import Client

HANDLERS = Path(__file__).parent / "handlers"
PLAIN = (sys.executable, str(Path(__file__).parent / "plain_worker.py"))


@dataclass(frozen=True)
class Run:
    """One job: when it was taken from the queue, held the device, and was done; seconds since the epoch."""

    worker: str
    taken: float
    started: float
    ended: float
    done: float


@dataclass(frozen=True)
class Figures:
    """One load on one kind of worker."""

    load: str
    worker: str
    seconds: float
    device_busy: float
    waited_beside_idle: float


def measure(name: str, command: Sequence[str], *, workers: int, jobs: int, ms: float) -> Figures:
    """Queue the jobs at once, wait for all, and read the endpoint's own record."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        (data / "models.json").write_text("[]")
        env = {"HANDLERS": str(HANDLERS), "MODELS": str(data / "models.json")}
        with LocalEndpoint(data / "data", workers=workers, env=env, command=command) as endpoint:
            client = Client(endpoint.url, "media", endpoint.key)
            client.run({"pipeline": "hold", "ms": ms})  # the worker learns how long such a job is
            ids = [client.submit({"pipeline": "hold", "ms": ms}) for _ in range(jobs)]
            outputs = [client.wait(job) for job in ids]
            runs = [_run(data / "data" / "media" / "jobs.sqlite3", *pair) for pair in zip(ids, outputs, strict=True)]
            client.close()
    load = f"{jobs} jobs of {ms:g} ms" + (f", {workers} workers" if workers > 1 else "")
    seconds = max(r.done for r in runs) - min(r.taken for r in runs)
    return Figures(load, name, seconds, _device_busy(runs), _waited_beside_idle(runs))


def _run(database: Path, job_id: str, output: dict[str, dict[str, float]]) -> Run:
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as db:
        worker, taken, done = db.execute(
            "SELECT worker, taken_at, ended_at FROM jobs WHERE id = ?", (job_id,)
        ).fetchone()
    held = output.get("metrics", output)
    return Run(worker, taken, float(held["started"]), float(held["ended"]), done)  # type: ignore[arg-type]


def _device_busy(runs: list[Run]) -> float:
    """Share of the time from each worker's first start to its last end in which it held the device."""
    by_worker = defaultdict(list)
    for run in runs:
        by_worker[run.worker].append(run)
    held = sum(r.ended - r.started for r in runs)
    return held / sum(max(r.ended for r in own) - min(r.started for r in own) for own in by_worker.values())


def _waited_beside_idle(runs: list[Run]) -> float:
    """The longest that a job, bound to a busy worker, waited while another worker had nothing to do."""
    workers = {r.worker for r in runs}
    return max((_overlap(r, other, runs) for r in runs for other in workers - {r.worker}), default=0.0)


def _overlap(waiting: Run, other: str, runs: list[Run]) -> float:
    busy = sorted((r.started, r.ended) for r in runs if r.worker == other)
    idle_from, longest = waiting.taken, 0.0
    for started, ended in busy:
        longest = max(longest, min(started, waiting.started) - idle_from)
        idle_from = max(idle_from, ended)
    return max(longest, waiting.started - idle_from)


def main() -> None:
    """Print the table, and write it where `--json` says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    args = parser.parse_args()
    figures = []
    for workers, jobs, ms in ((1, 20, 50), (1, 10, 1000), (2, 8, 2000)):
        for name, command in (("pilotlight", WORKER_COMMAND), ("plain SDK handler", PLAIN)):
            figures.append(measure(name, command, workers=workers, jobs=jobs, ms=ms))
    _print(figures)
    if args.json:
        args.json.write_text(json.dumps([asdict(f) for f in figures], indent=1))


def _print(figures: list[Figures]) -> None:
    table = Table(
        "load", "worker", "first taken to last done", "device busy", "longest wait beside an idle worker", "ratio"
    )
    for ours, plain in zip(figures[::2], figures[1::2], strict=True):
        for row in (ours, plain):
            table.add_row(
                row.load,
                row.worker,
                f"{row.seconds:.2f} s",
                f"{row.device_busy:.1%}",
                f"{row.waited_beside_idle:.2f} s",
                f"{row.seconds / ours.seconds:.1f} x",
            )
    Console().print(table)


if __name__ == "__main__":
    main()
