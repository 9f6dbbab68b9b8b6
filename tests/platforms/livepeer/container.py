"""The image's command as a process, with the image's own environment and what `docker run` was given."""

import json
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

from tests.platforms.harness import until
from tests.platforms.livepeer import wire
from tests.platforms.test_image import RECIPES, steps

ROOT = Path(__file__).parents[3]
TO_START_S = 120.0


def image_environment(models: Path, home: Path) -> dict[str, str]:
    """ENV of both Dockerfiles, but for the base's own software; its folders are ours."""
    folders = {"/models": str(models), "/home/pilotlight": str(home), "/app": str(ROOT)}
    environment = {}
    for _, rest in (s for recipe in RECIPES for s in steps(recipe) if s[0] == "ENV"):
        for pair in shlex.split(rest):
            name, _, value = pair.partition("=")
            for inside, outside in folders.items():
                value = value.replace(inside, outside)
            environment[name] = value
    return {name: value for name, value in environment.items() if name != "PATH"}


def image_command() -> list[str]:
    """CMD, with this interpreter for the image's."""
    (command,) = (json.loads(rest) for name, rest in steps(RECIPES[1]) if name == "CMD")
    assert command[0] == "python3"
    return [sys.executable, *command[1:]]


def free_port() -> int:
    """A port on loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Container:
    """A started container; `given` are the `-e` of `docker run`, `models` is its `-v ...:/models`."""

    def __init__(self, folder: Path, given: dict[str, str], models: Path | None = None) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / "container.log"
        self.seen: list[str] = []
        """The states by which it called itself while it started, each once."""
        folder.mkdir(parents=True, exist_ok=True)
        environment = image_environment(models or folder / "models", folder / "home")
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                image_command(),
                cwd=ROOT,
                env={"PATH": "/usr/bin:/bin", **environment, "PORT": str(self.port), **given},
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def __enter__(self) -> Self:
        try:
            until(self.is_ready, TO_START_S)
        except BaseException:
            self.process.kill()
            raise
        return self

    def __exit__(self, *_exc: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(30)
        finally:
            self.process.kill()
        assert status == 0, self.log.read_text()

    def is_ready(self) -> bool:
        """Whether it has loaded its model."""
        assert self.process.poll() is None, self.log.read_text()
        try:
            status = self.health()["status"]
        except OSError:
            return False
        if status not in self.seen:
            self.seen.append(status)
        return bool(status not in ("LOADING", "ERROR"))

    def health(self) -> dict[str, Any]:
        """What it says of itself."""
        answer = wire.get(self.url, "/health")
        assert answer.status == 200, answer.data
        return dict(answer.json())
