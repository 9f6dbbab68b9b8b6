"""Starts real RunPod workers as processes, and starts them again when they end."""

import contextlib
import ctypes
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from shared.errors import InsufficientCapacity

WORKER_COMMAND = (sys.executable, "-m", "platforms.runpod.worker")
ROOT = Path(__file__).resolve().parents[2]

_PR_SET_PDEATHSIG = 1
_FAILURES = 3
_LONGEST_PAUSE_S = 10.0
_FAILURES_TO_LONGEST = 7
_SETTLED_S = 10.0
_LOG_TAIL_BYTES = 2000
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def worker_env(
    base: Mapping[str, str], endpoint_url: str, token: str, home: Path, *, ping_interval_ms: int, files: bool
) -> dict[str, str]:
    """The environment that RunPod gives its workers, pointed at our endpoint.

    `endpoint_url` is `http://host:port/v2/{endpoint}`; `files` lets workers put large results beside the queue.
    """
    env = {k: v for k, v in base.items() if not k.startswith("RUNPOD_") and k != "PILOTLIGHT_API_KEY"}
    cache = Path(base.get("XDG_CACHE_HOME") or Path(base.get("HOME", "/")) / ".cache")
    env.setdefault("HF_HOME", str(cache / "huggingface"))  # before HOME is moved
    env.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that spin for each other stand in other workers' way
    env |= {
        "HOME": str(home),  # a key in ~/.runpod/config.toml would override the token
        "RUNPOD_WEBHOOK_GET_JOB": f"{endpoint_url}/job-take/$ID?gpu=LOCAL",
        "RUNPOD_WEBHOOK_POST_OUTPUT": f"{endpoint_url}/job-done/$RUNPOD_POD_ID/$ID?gpu=LOCAL",
        "RUNPOD_WEBHOOK_POST_STREAM": f"{endpoint_url}/job-stream/$RUNPOD_POD_ID/$ID?gpu=LOCAL",
        "RUNPOD_WEBHOOK_PING": f"{endpoint_url}/ping/$RUNPOD_POD_ID",
        "RUNPOD_PING_INTERVAL": str(max(1000, ping_interval_ms)),  # the SDK divides by 1000, and dies of a zero
        "RUNPOD_AI_API_KEY": token,
        "RUNPOD_ENDPOINT_ID": endpoint_url.rpartition("/")[2],
        "RUNPOD_LOG_LEVEL": "INFO",
        "RUNPOD_SKIP_AUTO_SYSTEM_CHECKS": "true",
        "RUNPOD_SKIP_GPU_CHECK": "true",
    }
    return env | ({"FILES_URL": f"{endpoint_url}/files", "FILES_TOKEN": token} if files else {})


@dataclass
class WorkerPool:
    """`count` workers of one endpoint.

    `on_exit` hears the id of each worker whose process has ended, `on_stopping` of each that will be told to end.
    `failures` says how many in a row have ended before their first job.
    Processes are started from one thread each, which lives as long as they do: Linux kills them with that thread.
    """

    count: int
    env: Mapping[str, str]
    logs: Path
    on_exit: Callable[[str], None]
    on_stopping: Callable[[str], None]
    command: Sequence[str] = WORKER_COMMAND
    prefix: str = "local"
    drain_s: float = 30.0
    error: InsufficientCapacity | None = None
    failures: int = 0
    _running: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)
    _ready: set[str] = field(default_factory=set)
    _asked_to_end: set[str] = field(default_factory=set)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        """Start the workers; returns at once."""
        self.logs.mkdir(parents=True, exist_ok=True, mode=0o700)
        for number in range(self.count):
            thread = threading.Thread(target=self._keep, args=(number,), name=f"worker-{number}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def running(self) -> dict[str, int]:
        """Worker ids and their process ids."""
        return {worker_id: process.pid for worker_id, process in list(self._running.items())}

    @property
    def is_ready(self) -> bool:
        """Whether a worker that runs now has asked for its first job."""
        return any(worker_id in self._ready for worker_id in self.running())

    def owns(self, worker_id: str) -> bool:
        """Whether it is one of these workers, or was."""
        return worker_id.startswith(f"{self.prefix}-")

    def note_ready(self, worker_id: str) -> None:
        """The worker has asked for its first job."""
        self._ready.add(worker_id)

    def restart(self, worker_id: str) -> None:
        """Let a worker finish what it has, and start another in its place."""
        process = self._running.get(worker_id)
        if process is None or worker_id in self._asked_to_end:
            return
        self._asked_to_end.add(worker_id)
        threading.Thread(target=self._end, args=(worker_id, process), daemon=True).start()

    def stop(self) -> None:
        """End all workers: SIGTERM, time to drain, then SIGKILL to what is left."""
        self._stopping.set()
        for worker_id in self.running():
            self.restart(worker_id)
        for thread in self._threads:
            thread.join()

    def _end(self, worker_id: str, process: "subprocess.Popen[bytes]") -> None:
        self.on_stopping(worker_id)
        process.terminate()
        try:
            process.wait(self.drain_s)
        except subprocess.TimeoutExpired:
            _kill_group(process)

    def _keep(self, number: int) -> None:
        """Keep one worker running until the pool stops, or the worker fails thrice before its first take."""
        short_lives = 0
        while not self._stopping.is_set():
            worker_id = f"{self.prefix}-{number}-{secrets.token_hex(3)}"
            started = time.monotonic()
            try:
                end = f"code {self._run(worker_id)}"
            except OSError as exc:  # no process to be had, which may pass
                end = f"'{exc.strerror}' instead of a process"
            if worker_id in self._asked_to_end:
                continue
            self.failures = 0 if worker_id in self._ready else self.failures + 1
            short_lives = short_lives + 1 if time.monotonic() - started < _SETTLED_S else 0
            if self.failures >= _FAILURES:
                self.error = InsufficientCapacity(
                    f"the worker ended {self.failures} times before its first job, last with {end}; "
                    f"the end of its log:\n{self._log_tail(worker_id)}"
                )
                return
            self._stopping.wait(min(_LONGEST_PAUSE_S, 0.1 * 2 ** min(short_lives, _FAILURES_TO_LONGEST)))

    def _run(self, worker_id: str) -> int:
        """Run one worker process to its end; returns its exit code."""
        with (self.logs / f"{worker_id}.log").open("ab") as log:
            process = subprocess.Popen(  # noqa: S603 - the operator's own command
                self.command,
                cwd=ROOT,
                env={**self.env, "RUNPOD_POD_ID": worker_id},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        self._running[worker_id] = process
        if self._stopping.is_set():
            self.restart(worker_id)
        code = process.wait()
        del self._running[worker_id]
        _kill_group(process)  # the SDK's ping process outlives a killed worker
        self.on_exit(worker_id)
        return code

    def _log_tail(self, worker_id: str) -> str:
        log = self.logs / f"{worker_id}.log"
        return log.read_bytes()[-_LOG_TAIL_BYTES:].decode(errors="replace") if log.exists() else ""


def die_with_parent() -> None:
    """In a process that is about to begin: end when the one that started it does, also by SIGKILL."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _kill_group(process: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
