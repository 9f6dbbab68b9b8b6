"""The web page beside an endpoint of this machine: its config.yml, and its process."""

import json
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import handlers
from platforms.forms import schemas_text
from platforms.local.server import HOST
from platforms.local.workers import die_with_parent
from shared.errors import InsufficientCapacity, InvalidInput
from shared.models.catalog import TEXT_GENERATION, Entry
from shared.plan import Planner
from shared.receipts import Signer
from shared.settings import Settings, inherited, variable

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv-ui" / "bin" / "python"
KEY = "RUNPOD_AI_API_KEY"
PASSED = ("PATH", "HOME", "LANG", "TMPDIR")
LOG = "page.log"
READY_TIMEOUT_S = 180.0
EXAMPLES = {
    "text-to-image": ["a red circle on a blue background", "a small yellow triangle on a green background"],
    "workflow": ["a red circle on a blue background"],
    TEXT_GENERATION: ["How many corners does a square have?", "Which colour do red and yellow make?"],
}


@dataclass(frozen=True)
class WebPage:
    """Where the page is, and which process serves it."""

    url: str
    pid: int


@contextmanager
def web_page(config: Mapping[str, Any], keys: Mapping[str, str], folder: Path, port: int = 0) -> Iterator[WebPage]:
    """The page of a configuration, while its process runs; its log is in `folder`.

    It has forms for our pipelines and for those in the folder that `HANDLERS` names. `keys` are the variables that
    hold the endpoints' keys. Of this process's own environment, which holds other secrets too, the page gets nothing
    but what any program needs.

    Raises:
        InvalidInput: the port is taken, or the page's environment is not there.
        InsufficientCapacity: the page did not come up.
    """
    port = free(port)
    folder = folder.resolve()
    (folder / "config.yml").write_text(json.dumps(config, indent=1))  # YAML holds JSON
    (folder / "schemas.json").write_text(schemas_text(handlers.Folders(Settings.from_env().handlers)))
    told = ["--config", str(folder / "config.yml"), "--schemas", str(folder / "schemas.json")]
    with (folder / LOG).open("ab") as log:
        process = subprocess.Popen(  # noqa: S603
            [PYTHON, ROOT / "ui_space" / "app.py", *told, "--host", HOST, "--port", str(port)],
            env={**{name: value for name in PASSED if (value := variable(name))}, **keys},
            stdout=log,
            stderr=subprocess.STDOUT,
            preexec_fn=die_with_parent,
        )
    try:
        _wait_until_it_answers(process, url := f"http://{HOST}:{port}/", folder)
        yield WebPage(url, process.pid)
    finally:
        process.terminate()
        process.wait()


def configuration(url: str, served: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """What a config.yml of these endpoints says: pipelines, and the values that their models are meant for."""
    planners = {name: _planner(Settings.from_env(inherited(**env))) for name, env in served.items()}
    key = Settings.from_env().receipt_key
    return {
        "endpoints": [
            {
                "name": name,
                "base_url": url,
                "endpoint_id": name,
                "pipelines": planners[name].pipelines,
                "receipt_key": Signer(key.get_secret_value()).public_key if key else None,
            }
            for name in served
        ],
        "defaults": _defaults([entry for planner in planners.values() for entry in planner.catalog.entries]),
        "examples": EXAMPLES,
    }


def _planner(settings: Settings) -> Planner:
    """What knows the pipelines that a worker with these settings serves."""
    return Planner(settings, handlers.Folders(settings.handlers))


def _defaults(entries: list[Entry]) -> dict[str, dict[str, Any]]:
    """Of each pipeline's first model, which runs where a job names none."""
    return {entry.pipeline: dict(entry.defaults) for entry in reversed(entries)}


def free(port: int) -> int:
    """The page's port, or a free one for 0.

    Raises:
        InvalidInput: it is taken, or the page's environment is not there.
    """
    if not PYTHON.is_file():
        raise InvalidInput("the page has an environment of its own, which is not there; `make setup` makes it")
    try:
        with socket.create_server((HOST, port)) as probe:
            found: int = probe.getsockname()[1]
    except OSError as exc:
        raise InvalidInput(f"port {port} cannot be used ({exc.strerror}); choose another with --ui-port") from exc
    return found


def _wait_until_it_answers(process: "subprocess.Popen[bytes]", url: str, folder: Path) -> None:
    until = time.monotonic() + READY_TIMEOUT_S
    while process.poll() is None and time.monotonic() < until:
        try:
            with urllib.request.urlopen(url, timeout=5):  # noqa: S310 our own
                return
        except (urllib.error.URLError, TimeoutError):
            time.sleep(0.1)
    raise InsufficientCapacity(f"the page did not start; see {folder / LOG}")
