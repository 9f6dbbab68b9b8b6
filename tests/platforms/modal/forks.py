"""Containers forked from one process that has imported large libraries, so that seven take the time of one.

What runs in them is the entry point that Modal starts, as `containers.ENTRYPOINT` does; libraries have read their
variables before, those of the first container.
"""

import asyncio
import contextlib
import ctypes
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ORDER_BYTES = 2**17
PR_SET_PDEATHSIG = 1
ENTRYPOINT = "modal._container_entrypoint"


@dataclass
class Forked:
    """A container; what `asyncio.subprocess.Process` has of a process that was started."""

    pid: int
    stdout: asyncio.StreamReader
    ended: "asyncio.Future[int]"
    returncode: int | None = None

    async def wait(self) -> int:
        self.returncode = await self.ended
        return self.returncode


class Forks:
    """Makes containers, with `modules` imported; the first one starts the process that they are forked from."""

    def __init__(self, modules: Sequence[str]) -> None:
        self._modules = modules
        self._lock = asyncio.Lock()
        self._ours: socket.socket | None = None
        self._started: asyncio.Queue[int] = asyncio.Queue()
        self._ends: dict[int, asyncio.Future[int]] = {}

    async def fork(self, cwd: Path, env: dict[str, str]) -> Forked:
        """A container in this folder with this environment and no other."""
        async with self._lock:
            if self._ours is None:
                self._ours = await self._begin(cwd, env)
            reading, writing = os.pipe()
            order = json.dumps({"cwd": str(cwd), "env": env}).encode()
            socket.send_fds(self._ours, [order], [writing])
            os.close(writing)
            pid = await self._started.get()
            assert pid, "the process to fork from has ended: it could not import what was to be preloaded"
        output = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(output), os.fdopen(reading, "rb"))
        return Forked(pid, output, self._ends[pid])

    async def _begin(self, cwd: Path, env: dict[str, str]) -> socket.socket:
        from platforms.local.workers import die_with_parent  # not in the process below, which has no code of ours

        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-S", "-P", __file__, str(theirs.fileno()), *self._modules),
            cwd=cwd,
            env=env,
            pass_fds=[theirs.fileno()],
            preexec_fn=die_with_parent,
        )
        theirs.close()
        self._listening = asyncio.create_task(self._listen(ours))
        return ours

    async def _listen(self, ours: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(ConnectionResetError):  # it ended with an order unread
            while told := await loop.sock_recv(ours, ORDER_BYTES):
                news = json.loads(told)
                if news["code"] is None:
                    self._ends[news["pid"]] = loop.create_future()
                    self._started.put_nowait(news["pid"])
                else:
                    self._ends[news["pid"]].set_result(news["code"])
        self._started.put_nowait(0)

    async def close(self) -> None:
        """End the process; its containers must have ended."""
        if self._ours is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
            await self._listening
            self._ours.close()


def serve(orders: socket.socket) -> dict[str, Any]:
    """Fork for each order, and tell who was started and how they ended; returns the order, in each fork."""
    waking, woken = os.pipe()
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(woken)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    while True:
        ready, _, _ = select.select([orders.fileno(), waking], [], [])
        if waking in ready:
            os.read(waking, 1024)
            for pid, code in _ended():
                orders.send(json.dumps({"pid": pid, "code": code}).encode())
        if orders.fileno() in ready:
            told, descriptors, _, _ = socket.recv_fds(orders, ORDER_BYTES, 1)
            if (pid := os.fork()) == 0:
                signal.set_wakeup_fd(-1)
                return {**json.loads(told), "output": descriptors[0]}
            os.close(descriptors[0])
            orders.send(json.dumps({"pid": pid, "code": None}).encode())


def _ended() -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        found.append((pid, os.waitstatus_to_exitcode(status)))


def become(order: dict[str, Any]) -> None:
    """Be the container that was ordered."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.chdir(order["cwd"])
    for stream in (1, 2):
        os.dup2(order["output"], stream)
    os.close(order["output"])
    os.environ.clear()
    os.environ.update(order["env"])
    sys.path[:] = [*dict.fromkeys([order["cwd"], *order["env"]["PYTHONPATH"].split(os.pathsep), *sys.path])]
    runpy.run_module(ENTRYPOINT, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as channel:
        for module in sys.argv[2:]:
            importlib.import_module(module)
        ordered = serve(channel)
    become(ordered)
