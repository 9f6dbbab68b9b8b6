"""What `pilotlight up` does: an endpoint with workers in the foreground, until it is told to stop."""

import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from platforms.local import serving
from platforms.local.up import LocalEndpoint
from platforms.records import MEDIA, Endpoint, remember
from shared.errors import InvalidInput
from shared.models.catalog import TEXT_GENERATION
from shared.settings import Settings, variable

TRY = {
    MEDIA: 'pilotlight run text-to-image --prompt "a red circle on a blue background"',
    TEXT_GENERATION: 'pilotlight run text-generation --prompt "How many corners does a square have?"',
}


def serve(*, workers: int, port: int, data: Path, strict: bool, as_json: bool) -> None:
    """Start, say where, and wait for SIGINT or SIGTERM."""
    console = Console(stderr=True, highlight=False)
    settings = Settings.from_env()
    with _stop_signal() as stop, _interrupted(console):
        console.print(
            f"starting {workers} worker{'s' if workers > 1 else ''} an endpoint; logs in {data / 'logs'}",
            soft_wrap=True,
        )
        with local_endpoint(data, workers=workers, port=port, strict=strict, settings=settings) as endpoint:
            stop.armed = True
            remember([Endpoint(name, endpoint.url, endpoint.key) for name in endpoint.pools])
            _announce(endpoint, console, as_json=as_json)
            stop.wait()
            console.print("stopping: workers finish what they have taken")


def local_endpoint(data: Path, *, workers: int, port: int, settings: Settings, strict: bool = False) -> LocalEndpoint:
    """Endpoints with workers on the models that the environment names, else on the demo models; see `serving`.

    Raises:
        InvalidInput: the port is taken, another endpoint has the data folder, or the environment is wrong.
    """
    data.mkdir(parents=True, exist_ok=True)
    paths = {"HANDLERS": settings.handlers, "MODELS": settings.models, "MODEL_DIR": settings.model_dir}
    models = {"MODEL_ID": settings.model_id, "GGML_REPO": settings.ggml_repo}
    paths |= {name: Path(value) for name, value in models.items() if value and value.startswith(("./", "../"))}
    env = {name: str(path.resolve()) for name, path in paths.items() if path}  # workers start in another folder
    # each worker's torch would take every core, and spin for them
    env["OMP_NUM_THREADS"] = variable("OMP_NUM_THREADS") or str(max(1, (os.cpu_count() or 1) // workers))
    own_key = settings.pilotlight_api_key
    try:
        return LocalEndpoint(
            data,
            workers=workers,
            port=port,
            env=env,
            endpoints=serving.endpoints(settings, data),
            key=own_key.get_secret_value() if own_key else None,
            strict=strict,
            allow_private_hosts=settings.allow_private_hosts,
            drain_s=settings.drain_s,
            ready_timeout_s=None,
        )
    except OSError as exc:
        raise InvalidInput(f"port {port} cannot be used ({exc.strerror}); choose another with --port") from exc


def _announce(endpoint: LocalEndpoint, console: Console, *, as_json: bool) -> None:
    if as_json:
        said = {"url": endpoint.url, "key": endpoint.key, "endpoints": list(endpoint.pools)}
        print(json.dumps(said), flush=True)  # noqa: T201
        return
    for name in endpoint.pools:
        console.print(f"ready: {endpoint.url}/{name}", soft_wrap=True)
    if TEXT_GENERATION in endpoint.pools:
        console.print(f"OpenAI's API: {endpoint.url}/{TEXT_GENERATION}/openai/v1", soft_wrap=True)
    console.print(f"key:   {endpoint.key}", soft_wrap=True)
    for name in endpoint.pools:
        console.print(f"try:   {TRY[name]}", soft_wrap=True)


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
