"""The container image: its recipe is sound, and its steps, carried out in a folder, make a worker that works."""

import base64
import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import string
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path
from typing import Any, Self

import pytest

from platforms.local.up import LocalEndpoint
from shared.jobs.backend import ENDED
from shared.jobs.client import Client
from tests.platforms.harness import until

ROOT = Path(__file__).parents[2]
HADOLINT = Path(sysconfig.get_path("scripts")) / "hadolint"
RECIPES = (ROOT / "Dockerfile-base", ROOT / "Dockerfile")
PACKAGES = ("handlers", "platforms", "shared", "templates")
WEIGHTS = (".safetensors", ".gguf", ".bin", ".ckpt", ".onnx", ".pt", ".pth")
DEMO = ROOT / "templates/demo_models/text-to-image"


def steps(recipe: Path) -> list[tuple[str, str]]:
    """A Dockerfile's instructions and their arguments; comments dropped, continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", recipe.read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    return [(name, rest) for line in lines if line for name, rest in [line.split(maxsplit=1)]]


def is_ignored(path: str, patterns: list[str]) -> bool:
    """Docker's rule: the last pattern that matches the path, or a folder above it, decides."""
    parts = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    ignored = False
    for pattern in patterns:
        tokens = re.findall(r"\*\*/|\*\*|\*|\?|[^*?]+", pattern.removeprefix("!"))
        regex = "".join(parts.get(t) or re.escape(t) for t in tokens)
        if re.fullmatch(f"{regex}(?:/.*)?", path):
            ignored = not pattern.startswith("!")
    return ignored


class Image:
    """The steps of both Dockerfiles carried out below a folder.

    The base's packages are not installed: a `python3` and a `pip` in its environment's place stand for them. That
    python3 reads no .pth file, so this checkout, which is installed editable beside the tests, is out of its reach.
    """

    def __init__(self, context: Path, root: Path) -> None:
        self.context, self.root = context, root
        self.env = {"PATH": os.defpath}
        self.workdir, self.user = root, "root"
        self.entrypoint: list[str] = []
        self.command: list[str] = []
        lines = (context / ".dockerignore").read_text().splitlines()
        self._ignore = [line for line in lines if line and not line.startswith("#")]
        self._stand_in_for_dependencies()
        for name, rest in [s for s in steps(RECIPES[0]) if s[0] == "ENV"] + steps(RECIPES[1]):
            getattr(self, f"_{name.lower()}", lambda _: None)(rest)

    def run(self, *command: str, **env: str) -> "subprocess.CompletedProcess[str]":
        """A command in the image, as its user would run it."""
        return subprocess.run(
            command, cwd=self.workdir, env={**self.env, **env}, capture_output=True, text=True, check=False
        )

    def _stand_in_for_dependencies(self) -> None:
        bin_folder, installed = self.root / "opt/venv/bin", self.root / "opt/venv/installed"
        path = f"{installed}:{sysconfig.get_path('purelib')}"
        bin_folder.mkdir(parents=True)
        for name, command in (
            ("python3", f'PYTHONPATH="$PYTHONPATH:{path}" exec {sys.executable} -S "$@"'),
            ("pip", f'PIP_NO_INDEX=1 PIP_TARGET={installed} exec {sys.executable} -m pip "$@"'),
        ):
            (bin_folder / name).write_text(f"#!/bin/sh\n{command}\n")
            (bin_folder / name).chmod(0o755)

    def _inside(self, text: str) -> str:
        return re.sub(r"(?<![\w./$}])/(?=\w)", f"{self.root}/", text)

    def _env(self, rest: str) -> None:
        for pair in shlex.split(rest):
            name, _, value = pair.partition("=")
            self.env[name] = string.Template(self._inside(value)).substitute(self.env)

    def _workdir(self, rest: str) -> None:
        self.workdir = Path(self._inside(rest))
        self.workdir.mkdir(parents=True)

    def _copy(self, rest: str) -> None:
        *sources, target = shlex.split(rest)
        for source in sources:
            given = self.context / source
            files = [given] if given.is_file() else sorted(f for f in given.rglob("*") if f.is_file())
            kept = [f for f in files if not is_ignored(f.relative_to(self.context).as_posix(), self._ignore)]
            assert kept, f"COPY {source}: there is nothing to copy"
            for file in kept:
                to = self.workdir / self._inside(target) / (file.name if file == given else file.relative_to(given))
                to.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(file, to)

    def _run(self, rest: str) -> None:
        done = self.run("sh", "-c", self._inside(rest))
        assert done.returncode == 0, done.stdout + done.stderr

    def _user(self, rest: str) -> None:
        self.user = rest

    def _entrypoint(self, rest: str) -> None:
        self.entrypoint = json.loads(rest)

    def _cmd(self, rest: str) -> None:
        self.command = json.loads(rest)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    return Image(ROOT, tmp_path_factory.mktemp("image"))


class Working:
    """An endpoint on this machine whose one worker is the image's command."""

    def __init__(self, image: Image, folder: Path, **env: str) -> None:
        self._log = folder / "worker.log"
        self._endpoint = LocalEndpoint(folder / "data", workers=0)
        given = self._endpoint.pools["media"].env
        platform = {k: v for k, v in given.items() if k == "HOME" or k.startswith(("RUNPOD_", "FILES_"))}
        self._image, self._env = image, {**image.env, **platform, "RUNPOD_POD_ID": "from-image", **env}

    def __enter__(self) -> Self:
        self._endpoint.start()
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*self._image.entrypoint, *self._image.command],
                cwd=self._image.workdir,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._endpoint.stop()

    def run(self, job_input: dict[str, Any]) -> dict[str, Any]:
        """The job's output; fails with the worker's log when the worker ends or the job does not complete."""
        with Client(self._endpoint.url, "media", self._endpoint.key) as client:
            job_id = client.submit(job_input)
            until(lambda: self.process.poll() is not None or client.status(job_id)["status"] in ENDED, 150)
            job = client.status(job_id)
        assert job["status"] == "COMPLETED", f"{job}\n{self._log.read_text()}"
        return dict(job["output"])


def test_hadolint_finds_nothing() -> None:
    found = subprocess.run([HADOLINT, *RECIPES], cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr


def test_hadolint_would_find_something(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM python:latest\nCMD python3 -m platforms.runpod.worker\n")
    found = subprocess.run([HADOLINT, tmp_path / "Dockerfile"], capture_output=True, text=True, check=False)
    assert "DL3007" in found.stdout
    assert "DL3025" in found.stdout


def test_starts_python_itself_as_a_user_that_is_not_root(image: Image) -> None:
    assert image.entrypoint == []
    assert image.command == ["python3", "-m", "platforms.start"]
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", image.user)
    names = [name for name, _ in steps(RECIPES[1])]
    assert not {"RUN", "COPY", "USER"} & set(names[names.index("USER") + 1 :])


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda r: r.name)
def test_pins_what_it_starts_from_and_names_no_secret(recipe: Path) -> None:
    told = steps(recipe)
    bases = [rest for name, rest in told if name in ("ARG", "FROM") and re.search(":(?!//)", rest)]
    assert len(bases) == 1
    assert re.search(r":\d[\w.-]*$", bases[0])
    names = {p.partition("=")[0] for name, rest in told if name in ("ARG", "ENV") for p in shlex.split(rest)}
    assert not [n for n in names if re.search("KEY|TOKEN|SECRET|PASSWORD", n)]
    assert "PYTHONDONTWRITEBYTECODE" not in names
    assert "ADD" not in [name for name, _ in told]


def test_cuda_is_the_same_in_the_base_in_the_check_and_on_the_hosts() -> None:
    base = dict(steps(RECIPES[0]))["FROM"]
    wanted = json.loads((ROOT / "templates/runpod/endpoint.json").read_text())["gpu"]["minCudaVersion"]
    assert base.startswith(f"nvidia/cuda:{wanted}.")
    assert f"RUNPOD_MIN_CUDA_VERSION={wanted}" in dict(steps(RECIPES[1]))["ENV"].split()


def test_holds_our_code_and_its_bytecode_and_no_downloaded_weights(image: Image) -> None:
    app = image.root / "app"
    ours = {f.relative_to(ROOT) for package in PACKAGES for f in (ROOT / package).rglob("*.py")}
    there = {f.relative_to(app) for f in app.rglob("*.py")}
    assert there == {f for f in ours if "train" not in f.parts}
    assert len(list(app.rglob("*.pyc"))) == len(there)
    weights = [f for f in image.root.rglob("*") if f.suffix in WEIGHTS]
    assert all(f.is_relative_to(app / "templates/demo_models") for f in weights)
    assert sum(f.stat().st_size for f in app.rglob("*")) < 64 * 2**20


def test_leaves_out_what_someone_left_in_the_checkout(tmp_path: Path) -> None:
    context = tmp_path / "context"
    strays = (".env", ".git/config", "shared/.env", "shared/sd.safetensors", "templates/id.pem", "tests/test_x.py")
    kept = ("pyproject.toml", "LICENSE", "templates/demo_models/t/unet/w.safetensors")
    for name in (*strays, *kept, "handlers/a.py", "platforms/a.py", "shared/a.py", "shared/__pycache__/a.pyc"):
        (context / name).parent.mkdir(parents=True, exist_ok=True)
        (context / name).touch()
    for name in (".dockerignore", "pyproject.toml"):
        shutil.copy(ROOT / name, context / name)
    image = Image(context, tmp_path / "image")
    files = {f.name for f in (image.root / "app").rglob("*") if f.is_file() and f.suffix != ".pyc"}
    assert files == {"a.py", "w.safetensors"}


def test_finds_our_packages_in_the_image_and_nowhere_else(image: Image) -> None:
    code = f"import {', '.join(PACKAGES)}; print(*[p.__file__ for p in ({', '.join(PACKAGES)})])"
    found = image.run("sh", "-c", f"cd / && python3 -c '{code}'").stdout.split()
    assert found == [str(image.root / "app" / p / "__init__.py") for p in PACKAGES]
    elsewhere = image.run("sh", "-c", "cd / && python3 -c 'import shared'", PYTHONPATH="")
    assert "No module named 'shared'" in elsewhere.stderr


def test_the_image_in_a_folder_takes_a_job(image: Image, tmp_path: Path) -> None:
    no_models = tmp_path / "models.json"
    no_models.write_text("[]")
    extra = Path(__file__).parent / "extra_handlers"
    with Working(image, tmp_path, HANDLERS=str(extra), MODELS=str(no_models)) as worker:
        result = worker.run({"pipeline": "sleep", "ms": 10})
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert result["receipt"]["worker"] == "from-image"
    assert result["receipt"]["software"]["pilotlight"] == version
    assert (image.root / f"opt/venv/installed/pilotlight-{version}.dist-info").is_dir()


@pytest.mark.skipif(not DEMO.exists(), reason="the demo model is not trained yet")
def test_the_image_in_a_folder_draws_a_picture(image: Image, tmp_path: Path) -> None:
    with Working(image, tmp_path, PIPELINE="text-to-image", MODEL_ID="demo/text-to-image", DEVICE="cpu") as worker:
        result = worker.run({"prompt": "a red circle on blue", "num_inference_steps": 2, "seed": 1})
    assert result["receipt"]["model"]["id"] == "demo/text-to-image"
    assert base64.b64decode(result["images"][0]["url"].partition(",")[2]).startswith(b"\x89PNG")
