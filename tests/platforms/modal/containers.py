"""Container processes: Modal's own entry point over the uploaded files, started when calls wait."""

import asyncio
import contextlib
import hashlib
import json
import os
import signal
import site
import sys
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from google.protobuf.empty_pb2 import Empty
from modal_proto import api_pb2

from platforms.local.workers import die_with_parent
from tests.platforms.modal.calls import CANCELLED, Call, Calls, Result, timed_out
from tests.platforms.modal.deploying import layout
from tests.platforms.modal.forks import Forked, Forks
from tests.platforms.modal.records import Function
from tests.platforms.modal.service import TASK_HEADER

HEARTBEAT_S = 5.0
HOME = "/root"  # where uploaded files are in a container
ENTRYPOINT = (sys.executable, "-S", "-m", "modal._container_entrypoint")  # -S: no editable install of this project


@dataclass
class Task:
    """One container; `free` of its places wait for a call, and none does while it starts."""

    id: str
    function: Function
    process: "asyncio.subprocess.Process | Forked"
    free: int = 0
    has_started: bool = False
    is_retired: bool = False
    to_cancel: list[str] = field(default_factory=list)

    @property
    def has_to_go(self) -> bool:
        return self.is_retired or self.function.app.is_done

    def kill(self) -> None:
        """End it with everything that it has started."""
        self.is_retired = True
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)


@dataclass(frozen=True)
class Commit:
    """One commit of a volume: asked for by a call, or done for all that a container has at its end."""

    volume: str
    by_call: bool


class Containers:
    """Starts at most `max_containers` for each variant of a function; `env` goes before what the image sets."""

    def __init__(self, folder: Path, calls: Calls, max_containers: int, preload: Sequence[str]) -> None:
        self.folder = folder
        self.calls = calls
        self.max_containers = max_containers
        self.url = ""
        self.env: dict[str, str] = {}
        self.all: dict[str, Task] = {}
        self.checkpoints: list[str] = []
        self.commits: list[Commit] = []
        self.reloads: list[str] = []  # names of volumes
        self.failures: list[str] = []
        self.is_closed = False
        self._starting: dict[str, int] = {}
        self._work: set[asyncio.Task[None]] = set()
        self._uploading = asyncio.Lock()
        self._forks = Forks(preload) if preload else None
        calls.fleet = self

    async def close(self) -> None:
        self.is_closed = True
        for task in self.all.values():
            if task.process.returncode is None:
                task.kill()
        while self._work:
            await asyncio.gather(*self._work, return_exceptions=True)
        if self._forks:
            await self._forks.close()

    def living(self, function: Function) -> list[Task]:
        return [t for t in self.all.values() if t.function.id == function.id and not t.is_retired]

    def volume_folder(self, name: str) -> Path:
        """What is mounted as a volume of that name."""
        folder = self.folder / "volumes" / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def scale(self) -> None:
        """One more container for each call that has no place in those that there are."""
        if self.is_closed:
            return
        waiting = {c.function.id: c.function for c in self.calls.all.values() if not c.task_id and c.output is None}
        for function in waiting.values():
            living, coming = self.living(function), self._starting.get(function.id, 0)
            places = coming + sum(task.free if task.has_started else 1 for task in living)
            most = min(self.max_containers, function.max_containers or self.max_containers)
            if places < len(self.calls.waiting(function)) and len(living) + coming < most:
                self._starting[function.id] = coming + 1
                self._do(self._run(function))

    def _do(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    async def _run(self, function: Function) -> None:
        """Start a container, and stay with it to its end."""
        try:
            task = await self._start(function)
        except Exception as exc:  # noqa: BLE001 calls that can never run must not look like calls that wait
            self._fail(self.calls.waiting(function), f"the stand-in could not start a container: {exc!r}")
            return await self.calls.tell()
        finally:
            self._starting[function.id] -= 1
        if self.is_closed:
            task.kill()
        assert task.process.stdout is not None
        async for line in task.process.stdout:
            await self.calls.log(function.app, line.decode(errors="replace"))
        await task.process.wait()
        await self._gone(task)
        return task.kill()  # what it has started and left

    async def _start(self, function: Function) -> Task:
        task_id = self.calls.stock.new_id("ta")
        folder = self.folder / task_id
        folder.mkdir()
        async with self._uploading:
            uploaded = await asyncio.to_thread(self.uploaded, function)
        process = await self._process(uploaded[HOME], self._env(function, task_id, folder, uploaded))
        task = self.all[task_id] = Task(task_id, function, process)
        return task

    async def _process(self, cwd: Path, env: dict[str, str]) -> "asyncio.subprocess.Process | Forked":
        if self._forks:
            return await self._forks.fork(cwd, env)
        return await asyncio.create_subprocess_exec(
            *ENTRYPOINT,
            cwd=cwd,
            env=env,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )

    async def _gone(self, task: Task) -> None:
        """Modal runs elsewhere what a container leaves behind; calls that wait for one that cannot start fail."""
        if not task.has_started and not task.has_to_go:
            words = f"Container exited with {task.process.returncode} before it took a call"
            self._fail(self.calls.waiting(task.function), words)
        task.is_retired = True
        for call in self.calls.running_in(task.id):
            call.task_id = ""
        await self.calls.tell()

    def _fail(self, calls: list[Call], why: str, result: Result | None = None) -> None:
        self.failures.append(why)
        for call in calls:
            call.finish(result or Result(status=Result.GENERIC_STATUS_INIT_FAILURE, exception=why))

    def uploaded(self, function: Function) -> dict[str, Path]:
        """Folders with the files of a function's containers, by path in there; written once for all of them."""
        mounts = "".join(sorted(function.definition.mount_ids))
        root = self.folder / "uploaded" / hashlib.sha256(mounts.encode()).hexdigest()[:16]
        for path, data in function.files.items() if not root.exists() else ():
            file = root / path.lstrip("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
        return {f"/{folder.name}": folder for folder in root.iterdir()}

    def image_env(self, function: Function, uploaded: dict[str, Path]) -> dict[str, str]:
        """What the image sets; paths of the container are those of this machine."""
        places = uploaded | {v.path: self.volume_folder(v.name) for v in function.volumes}
        return {name: _at(value, places) for name, value in function.image_env.items()}

    def _env(self, function: Function, task_id: str, folder: Path, uploaded: dict[str, Path]) -> dict[str, str]:
        secrets = {name: value for secret in function.secrets for name, value in secret.env.items()}
        arguments = folder / "arguments"
        arguments.write_bytes(_arguments(function, task_id).SerializeToString())
        return {
            **self.image_env(function, uploaded),
            **secrets,
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", ""),  # sums depend on it
            "PYTHONUNBUFFERED": "1",
            **self.env,
            "PYTHONPATH": os.pathsep.join([str(uploaded[HOME]), *site.getsitepackages()]),
            "MODAL_SERVER_URL": self.url,
            "MODAL_CONTAINER_ARGUMENTS_PATH": str(arguments),
            "MODAL_TASK_ID": task_id,
            "MODAL_IMAGE_ID": function.definition.image_id,
            "MODAL_IS_REMOTE": "1",
            "MODAL_ENVIRONMENT": "main",
            "MODAL_HEARTBEAT_INTERVAL": str(HEARTBEAT_S),
            "MODAL_OVERRIDE_HEADERS": f"{TASK_HEADER}:{task_id}",
            "MODAL_ENABLE_SNAP_RESTORE": "1",
            "MODAL_RESTORE_STATE_PATH": str(folder / "restore-state.json"),
        }

    def number_of(self, function: Function) -> int:
        return len(self.living(function))

    def cancel(self, call: Call, terminate_containers: bool) -> None:
        task = self.all[call.task_id]
        if terminate_containers:
            call.finish(CANCELLED)
            task.kill()
        else:
            task.to_cancel.append(call.input_id)

    async def container_hello(self, request: Empty, task_id: str) -> Empty:
        return Empty()

    async def container_checkpoint(self, request: api_pb2.ContainerCheckpointRequest, task_id: str) -> Empty:
        """The moment of the snapshot; the same process goes on as what was restored of it."""
        self.checkpoints.append(task_id)
        (self.folder / task_id / "restore-state.json").write_text(json.dumps({"task_id": task_id}))
        return Empty()

    async def volume_commit(self, request: api_pb2.VolumeCommitRequest, task_id: str) -> api_pb2.VolumeCommitResponse:
        volume = self.calls.stock.volumes[request.volume_id]
        self.commits.append(Commit(volume.name, bool(self.calls.running_in(task_id))))
        return api_pb2.VolumeCommitResponse(skip_reload=True)

    async def volume_reload(self, request: api_pb2.VolumeReloadRequest, task_id: str) -> Empty:
        self.reloads.append(self.calls.stock.volumes[request.volume_id].name)
        return Empty()

    async def container_heartbeat(
        self, request: api_pb2.ContainerHeartbeatRequest, task_id: str
    ) -> api_pb2.ContainerHeartbeatResponse:
        task = self.all[task_id]
        if not await self.calls.until(lambda: task.to_cancel, HEARTBEAT_S - 0.2):
            return api_pb2.ContainerHeartbeatResponse()
        event = api_pb2.CancelInputEvent(input_ids=task.to_cancel)
        task.to_cancel.clear()
        return api_pb2.ContainerHeartbeatResponse(cancel_input_event=event)

    async def function_get_inputs(
        self, request: api_pb2.FunctionGetInputsRequest, task_id: str
    ) -> api_pb2.FunctionGetInputsResponse:
        task = self.all[task_id]
        task.has_started = True
        task.free += 1
        try:
            await self.calls.until(lambda: task.has_to_go or self.calls.waiting(task.function))
        finally:
            task.free -= 1
        if task.has_to_go:
            return api_pb2.FunctionGetInputsResponse(inputs=[api_pb2.FunctionGetInputsItem(kill_switch=True)])
        call = self.calls.waiting(task.function)[0]
        call.task_id, call.started_at, call.attempts = task_id, time.time(), call.attempts + 1
        self._do(self._watch(call, task))
        return api_pb2.FunctionGetInputsResponse(inputs=[call.given()])

    async def _watch(self, call: Call, task: Task) -> None:
        """End a call that takes longer than its function may, and its container with it."""
        attempt, limit_s = call.attempts, float(call.function.definition.timeout_secs)
        if not await self.calls.until(lambda: call.output or call.attempts > attempt or task.is_retired, limit_s):
            call.finish(timed_out(call))
            task.kill()
            await self.calls.tell()

    async def function_put_outputs(self, request: api_pb2.FunctionPutOutputsRequest, task_id: str) -> Empty:
        by_input = {call.input_id: call for call in self.calls.running_in(task_id)}
        for output in request.outputs:
            if output.input_id in by_input:
                by_input[output.input_id].finish(output.result, output.data_format)
        await self.calls.tell()
        return Empty()

    async def task_result(self, request: api_pb2.TaskResultRequest, task_id: str) -> Empty:
        """A container that could not start; what waits for it fails with its error."""
        task = self.all[task_id]
        task.is_retired = True
        calls = [*self.calls.waiting(task.function), *self.calls.running_in(task_id)]
        self._fail(calls, request.result.exception, request.result)
        await self.calls.tell()
        return Empty()

    async def container_stop(
        self, request: api_pb2.ContainerStopRequest, task_id: str
    ) -> api_pb2.ContainerStopResponse:
        self.all[request.task_id].is_retired = True
        await self.calls.tell()
        return api_pb2.ContainerStopResponse()


def _arguments(function: Function, task_id: str) -> api_pb2.ContainerArguments:
    definition = api_pb2.Function()
    definition.CopyFrom(function.definition)
    definition.is_checkpointing_function = definition.checkpointing_enabled
    return api_pb2.ContainerArguments(
        task_id=task_id,
        function_id=function.id,
        app_id=function.app.id,
        function_def=definition,
        serialized_params=function.serialized_parameters,
        environment_name="main",
        checkpoint_id="ch-1",
        app_layout=layout(function.app),
    )


def _at(value: str, places: dict[str, Path]) -> str:
    """A path in a container as one of this machine; other values as they are."""
    for place, folder in places.items():
        if value == place or value.startswith(f"{place}/"):
            return f"{folder}{value.removeprefix(place)}"
    return value
