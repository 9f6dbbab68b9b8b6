"""What a deployment uploads of yours: the handlers of HANDLERS, the list of MODELS, and what they need installed."""

# Read where one deploys, by an interpreter that has Modal's client and neither pydantic nor what a handler imports:
# so without shared.settings, and without running a line of a handler.

import ast
import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import modal

ROOT = Path(__file__).resolve().parents[2]
HOME = "/root"  # where Modal puts Python sources in its containers, and where they are imported from
OURS = ("handlers", "shared", "platforms")
ELSEWHERE = "/own"  # in the containers, for what is not below the root of the checkout
KEPT_BACK = ("**/.*", "**/__pycache__", "**/*.pyc", "**/*.env", "**/*.pem", "**/*.key")  # caches and secrets
REQUIREMENTS = "requirements.txt"  # beside the handlers; installed where the cards are
LOCK = "/opt/pilotlight/requirements.lock"

# What a handler may import at its top beside Python's own, for the web function imports it too: that has
# requirements-web.txt installed.
ON_WEB = frozenset(
    {"PIL", "annotated_types", "anyio", "av", "certifi", "cryptography", "fastapi", "numpy", "pybase64", "pydantic"}
    | {"pydantic_core", "requests", "starlette", "typing_extensions", "urllib3"}
)


@dataclass(frozen=True)
class Own:
    """Handlers and models that are not of this repository."""

    handlers: Path | None = None
    models: Path | None = None

    @property
    def env(self) -> dict[str, str]:
        """What the containers are told."""
        told = {"HANDLERS": self.handlers and self._folder, "MODELS": self.models and f"{ELSEWHERE}/models.json"}
        return {name: value for name, value in told.items() if value}

    @property
    def _folder(self) -> str:
        """Where the handlers are in the containers: as from the root of the checkout, where they are below it."""
        folder = self.handlers or ROOT
        below = folder.relative_to(ROOT) if folder.is_relative_to(ROOT) else None
        return f"{HOME}/{below.as_posix()}" if below and below.parts[0] not in OURS else f"{ELSEWHERE}/handlers"

    def installed_in(self, image: modal.Image) -> modal.Image:
        """The card's image with what the handlers need, in the versions that are locked where they are."""
        file = self.handlers / REQUIREMENTS if self.handlers else None
        if file is None or not file.is_file():
            return image
        there = f"{ELSEWHERE}/{REQUIREMENTS}"
        return image.add_local_file(file, there, copy=True).run_commands(
            f"pip install --no-cache-dir -c {LOCK} -r {there}"
        )

    def uploaded_to(self, image: modal.Image) -> modal.Image:
        """The image with the files."""
        if self.handlers:
            image = image.add_local_dir(self.handlers, self._folder, ignore=KEPT_BACK)
        if self.models:
            image = image.add_local_file(self.models, self.env["MODELS"])
        return image


def of_deployer(env: Mapping[str, str] = os.environ) -> Own:
    """What HANDLERS and MODELS name on the machine that deploys; ends the deployment where that cannot be used."""
    handlers, models = (Path(env[name]).resolve() if env.get(name) else None for name in ("HANDLERS", "MODELS"))
    if handlers:
        _check_handlers(handlers, env["HANDLERS"])
    if models:
        _check_models(models, env["MODELS"])
    return Own(handlers, models)


def _check_handlers(folder: Path, given: str) -> None:
    if not folder.is_dir():
        _refuse(f"HANDLERS: there is no folder '{given}'; name one with pipelines, as seen from here")
    files = [file for file in sorted(folder.glob("*.py")) if not file.name.startswith("_")]
    if not files:
        _refuse(f"HANDLERS: no pipeline is in '{given}', which would be a .py file whose name begins with no _")
    for file in files:
        _check_handler(file, folder)


def _check_handler(file: Path, folder: Path) -> None:
    try:
        body = ast.parse(file.read_bytes()).body
    except SyntaxError as wrong:
        _refuse(f"HANDLERS: {file.name} is no Python: {wrong.msg}, line {wrong.lineno}")
    beside = folder.relative_to(ROOT).parts[:1] if folder.is_relative_to(ROOT) else ()
    there = {*sys.stdlib_module_names, *OURS, *ON_WEB, *beside}
    if missing := sorted(set(_imported(body)) - there):
        _refuse(
            f"HANDLERS: {file.name} imports {', '.join(missing)} at its top, and the web function, which checks jobs "
            "without a card, does not have it; import it inside load and run"
        )


def _imported(body: list[ast.stmt]) -> Iterator[str]:
    """The packages that are imported when a module is."""
    for line in body:
        if isinstance(line, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in line.names)
        elif isinstance(line, ast.ImportFrom) and line.module and not line.level:
            yield line.module.partition(".")[0]


def _check_models(file: Path, given: str) -> None:
    try:
        is_list = isinstance(json.loads(file.read_text()), list)
    except OSError:
        _refuse(f"MODELS: there is no file '{given}' that can be read, as seen from here")
    except ValueError:
        is_list = False
    if not is_list:
        _refuse(f"MODELS: '{given}' is no list of models in JSON")


def _refuse(why: str) -> NoReturn:
    raise SystemExit(why)  # Modal's command line prints it, and no traceback
