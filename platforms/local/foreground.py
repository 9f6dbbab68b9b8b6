"""What `pilotlight up` does: an endpoint with workers in the foreground, until it is told to stop."""

import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from platforms.local.up import LocalEndpoint
from platforms.records import Endpoint, remember
from shared.errors import InvalidInput
from shared.models import catalog
from shared.settings import Settings, variable

DEMO = "demo/"


def serve(*, workers: int, port: int, data: Path, strict: bool, as_json: bool) -> None:
    """Start, say where, and wait for SIGINT or SIGTERM."""
    console = Console(stderr=True, highlight=False)
    settings = Settings.from_env()
    with _stop_signal() as stop, _interrupted(console):
        console.print(f"starting {workers} worker{'s' if workers > 1 else ''}; logs in {data / 'logs'}")
        with local_endpoint(data, workers=workers, port=port, strict=strict, settings=settings) as endpoint:
            stop.armed = True
            remember(Endpoint("media", endpoint.url, endpoint.key))
            _announce(endpoint, console, as_json=as_json)
            stop.wait()
            console.print("stopping: workers finish what they have taken")


def local_endpoint(data: Path, *, workers: int, port: int, settings: Settings, strict: bool = False) -> LocalEndpoint:
    """Endpoint `media` with workers on the models that the environment names, else on the demo models.

    Raises:
        InvalidInput: the port is taken, or another endpoint has the data folder.
    """
    data.mkdir(parents=True, exist_ok=True)
    env = {} if settings.models or settings.model_id else {"MODELS": str(_demo_catalog(data).resolve())}
    # each worker's torch would take every core, and spin for them
    paths = {"HANDLERS": settings.handlers, "MODELS": settings.models, "MODEL_DIR": settings.model_dir}
    env |= {name: str(path.resolve()) for name, path in paths.items() if path}  # workers start in another folder
    env["OMP_NUM_THREADS"] = variable("OMP_NUM_THREADS") or str(max(1, (os.cpu_count() or 1) // workers))
    own_key = settings.pilotlight_api_key
    try:
        return LocalEndpoint(
            data,
            workers=workers,
            port=port,
            env=env,
            key=own_key.get_secret_value() if own_key else None,
            strict=strict,
            allow_private_hosts=settings.allow_private_hosts,
            drain_s=settings.drain_s,
            ready_timeout_s=None,
        )
    except OSError as exc:
        raise InvalidInput(f"port {port} cannot be used ({exc.strerror}); choose another with --port") from exc


def _demo_catalog(data: Path) -> Path:
    """The built-in list's demo models, warm, as a models.json in the data folder."""
    entries = [e for e in catalog.read(catalog.BUILT_IN) if e.model_id.startswith(DEMO)]
    warm: list[dict[str, Any]] = [{**e.model_dump(), "warm": True} for e in entries]
    path = data / "models.json"
    path.write_text(json.dumps(warm, indent=1))
    return path


def _announce(endpoint: LocalEndpoint, console: Console, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"url": endpoint.url, "key": endpoint.key, "endpoints": ["media"]}), flush=True)  # noqa: T201
        return
    console.print(f"ready: {endpoint.url}/media")
    console.print(f"key:   {endpoint.key}")
    console.print('try:   pilotlight run text-to-image --prompt "a red circle on a blue background"')


@contextmanager
def _interrupted(console: Console) -> Iterator[None]:
    """End without a traceback when told to stop before everything was up, or a second time."""
    try:
        yield
    except KeyboardInterrupt:
        console.print("stopped")
        sys.exit(130)


class _Stop(threading.Event):
    """Set by a signal once it is armed; before, while things are starting, and the second time, it interrupts."""

    armed = False


@contextmanager
def _stop_signal() -> Iterator[_Stop]:
    stop = _Stop()

    def on_signal(*_: object) -> None:
        if stop.is_set() or not stop.armed:
            raise KeyboardInterrupt
        stop.set()

    before = {s: signal.signal(s, on_signal) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
