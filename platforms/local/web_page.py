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
from platforms.local.server import HOST
from platforms.local.workers import die_with_parent
from platforms.records import MEDIA
from shared.errors import InsufficientCapacity, InvalidInput
from shared.models.catalog import TEXT_GENERATION, Catalog, Entry
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

    `keys` are the variables that hold the endpoints' keys. Of this process's own environment, which holds other
    secrets too, the page gets nothing but what any program needs.

    Raises:
        InvalidInput: the port is taken, or the page's environment is not there.
        InsufficientCapacity: the page did not come up.
    """
    if not PYTHON.is_file():
        raise InvalidInput("the page has an environment of its own, which is not there; `make setup` makes it")
    port = _free(port)
    (folder / "config.yml").write_text(json.dumps(config, indent=1))  # YAML holds JSON
    told = ["--config", str((folder / "config.yml").resolve()), "--host", HOST, "--port", str(port)]
    with (folder / LOG).open("ab") as log:
        process = subprocess.Popen(  # noqa: S603
            [PYTHON, ROOT / "ui_space" / "app.py", *told],
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
    settings = {name: Settings.from_env(inherited(**env)) for name, env in served.items()}
    entries = {name: Catalog.from_settings(each).entries for name, each in settings.items()}
    key = Settings.from_env().receipt_key
    return {
        "endpoints": [
            {
                "name": name,
                "base_url": url,
                "endpoint_id": name,
                "pipelines": _pipelines(name, entries[name]),
                "receipt_key": Signer(key.get_secret_value()).public_key if key else None,
            }
            for name in served
        ],
        "defaults": _defaults([entry for listed in entries.values() for entry in listed]),
        "examples": EXAMPLES,
    }


def _pipelines(endpoint: str, entries: list[Entry]) -> list[str]:
    """Those that have a model, and with the pictures those that chain others; the page has forms for ours only."""
    named = [entry.pipeline for entry in entries]
    named += [name for name in handlers.names() if endpoint == MEDIA and handlers.get(name).chains]
    return [name for name in dict.fromkeys(named) if name in handlers.names()]


def _defaults(entries: list[Entry]) -> dict[str, dict[str, Any]]:
    """Of each pipeline's first model, which runs where a job names none."""
    return {entry.pipeline: dict(entry.defaults) for entry in reversed(entries)}


def _free(port: int) -> int:
    """The port, or a free one for 0."""
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
