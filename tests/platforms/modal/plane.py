"""A stand-in of Modal on loopback: the real command line deploys to it, and it runs calls in real containers.

    with Plane(folder) as plane:
        plane.add_secret("api-auth-token", AUTH_TOKEN="t")
        plane.modal("deploy", "-m", "platforms.modal.app").check_returncode()
        plane.app("pilotlight").functions["web"].definition       # what was declared
        with plane.client_env():                                  # Modal's client in this process
            call = modal.Cls.from_name("pilotlight", "Engine")(...).run.spawn(job)
        plane.calls.all[call.object_id].function.options          # what it was asked to run on
        plane.tasks("Engine.*")[0].kill()                         # and it runs again in another container
        plane.app("pilotlight").logs                              # what containers printed

`plane.containers` has what its containers did: `commits` and `reloads` of volumes, `checkpoints` (snapshots), and
`failures` of those that could not start. Its `env` is added to the environment of those that start from then on.
Paths of volumes and of uploaded files, in what the image sets there, are replaced by folders of this machine. Calls
wait while `max_containers` are busy; `plane.calls.max_waiting` is how many may. Modal keeps a call no
more once `plane.calls.all[id].is_expired = True`.

It shows no image builds, GPUs, quotas or volumes shared by machines; a snapshot goes on in the process that made it.
"""

import asyncio
import copy
import os
import socket
import subprocess
import threading
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import modal
from grpclib.server import Server

from shared.settings import inherited
from tests.platforms.modal.calls import Calls
from tests.platforms.modal.containers import Containers, Task
from tests.platforms.modal.deploying import Deploying
from tests.platforms.modal.records import App, Secret, Stock
from tests.platforms.modal.service import TOKEN_ID, TOKEN_SECRET, Service
from tests.platforms.modal.storage import Blobs, Storage, Volumes

ROOT = Path(__file__).parents[3]
COMMAND = ROOT / ".venv-modal" / "bin" / "modal"  # an environment with what a deployer has: Modal's client alone


class Plane:
    """Starts with nothing in it, or with what was deployed to another one, which stays as it is.

    Args:
        folder: for files of containers and volumes.
        deployed: `stock` of another plane.
        max_containers: of each class with its parameters and options, and of each function.
        preload: modules, as `torch`, that are imported once for all containers.
    """

    def __init__(
        self, folder: Path, deployed: Stock | None = None, max_containers: int = 1, preload: Sequence[str] = ()
    ) -> None:
        self.folder = folder
        self.blobs = Blobs()
        self.stock = copy.deepcopy(deployed) if deployed else Stock()
        self.storage = Storage()
        self.calls = Calls(self.stock)
        self.containers = Containers(folder, self.calls, max_containers, preload)
        self.deploying = Deploying(self.stock, self.blobs.__getitem__)
        volumes = Volumes(self.stock, self.containers.volume_folder)
        self.service = Service([self.deploying, self.calls, self.storage, volumes, self.blobs], self.containers)
        self.url = ""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._start())
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._do(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    async def _start(self) -> None:
        self._web = await self.blobs.start()
        self._server = Server([self.service])
        listening = socket.create_server(("127.0.0.1", 0))
        self.url = self.containers.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        await self._server.start(sock=listening)

    async def _stop(self) -> None:
        await self.containers.close()
        self._server.close()
        await self._server.wait_closed()
        await self._web.cleanup()
        await self._loop.shutdown_default_executor()

    @property
    def env(self) -> dict[str, str]:
        """What points Modal's client at this plane, and at no configuration of whoever runs the tests."""
        return {
            "MODAL_SERVER_URL": self.url,
            "MODAL_TOKEN_ID": TOKEN_ID,
            "MODAL_TOKEN_SECRET": TOKEN_SECRET,
            "MODAL_CONFIG_PATH": os.devnull,
        }

    @contextmanager
    def client_env(self) -> Iterator[None]:
        """Modal's client in this process speaks to this plane."""
        before = {name: os.environ.get(name) for name in self.env}
        os.environ.update(self.env)
        try:
            yield
        finally:
            modal.Client.from_env().close()  # it is kept for the process, and so would its address
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value

    def modal(self, *args: str, **env: str) -> "subprocess.CompletedProcess[str]":
        """Run Modal's command line, where this project is not installed, from the root of the checkout."""
        assert COMMAND.exists(), "there is no .venv-modal: run `make setup`"
        return subprocess.run(
            [COMMAND, *args],
            cwd=ROOT,
            env=inherited(COLUMNS="200", MODAL_BUILD_VALIDATION="ignore", **self.env) | env,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def add_secret(self, name: str, **env: str) -> Secret:
        return self.deploying.add_secret(name, env)

    def secret(self, name: str) -> Secret:
        """One that is there; containers that start get what its `env` has then."""
        return next(secret for secret in self.stock.secrets.values() if secret.name == name)

    def app(self, name: str) -> App:
        """The app that was deployed under this name."""
        app = self.deploying.app_named(name)
        assert app is not None, f"no app {name} was deployed"
        return app

    def volume(self, name: str) -> Path:
        """The folder that containers get as a volume."""
        return self.containers.volume_folder(name)

    def image_env(self, name: str) -> dict[str, str]:
        """The variables that the image of a function of `pilotlight` sets, by which its uploaded files are found."""
        function = self.app("pilotlight").functions[name]
        return self.containers.image_env(function, self.containers.uploaded(function))

    def tasks(self, name: str) -> list[Task]:
        """Living containers of an app's function (`web`, or `Engine.*` with any parameters)."""
        return [t for t in self.containers.all.values() if t.function.name == name and not t.is_retired]

    def retire(self, task: Task) -> None:
        """Let a container end once its calls are done, as one ends that Modal no longer needs."""
        self._do(self._retire(task))

    async def _retire(self, task: Task) -> None:
        task.is_retired = True
        await self.calls.tell()
