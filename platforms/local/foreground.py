"""What `pilotlight up` does: an endpoint with workers in the foreground, until it is told to stop."""

import json
import os
import secrets
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path

from rich.console import Console

from platforms.local import serving
from platforms.local.fleet import Placing
from platforms.local.gpus import Driver, choose
from platforms.local.up import LocalEndpoint
from platforms.local.web_page import KEY, WebPage, configuration, free, web_page
from platforms.records import MEDIA, Endpoint, remember
from shared.errors import InvalidInput
from shared.models.catalog import TEXT_GENERATION
from shared.settings import Settings, variable

TRY = {
    MEDIA: 'pilotlight run text-to-image --prompt "a red circle on a blue background"',
    TEXT_GENERATION: 'pilotlight run text-generation --prompt "How many corners does a square have?"',
}


def serve(
    *,
    workers: int,
    port: int,
    data: Path,
    strict: bool,
    as_json: bool,
    gpus: str | None = None,
    ui_port: int | None = None,
) -> None:
    """Start, say where, and wait for SIGINT or SIGTERM; with a port for it, the web page too."""
    console = Console(stderr=True, highlight=False)
    settings = Settings.from_env()
    say = partial(console.print, soft_wrap=True)
    placing = Placing(choose(gpus, Driver()), say=say) if gpus is not None else None
    each = "a model, on the cards" if placing else "an endpoint"
    if ui_port is not None:
        free(ui_port)  # said before models are loaded
    with _stop_signal() as stop, _interrupted(console):
        say(f"starting {workers} worker{'s' if workers > 1 else ''} {each}; logs in {data / 'logs'}")
        endpoint = local_endpoint(data, workers=workers, port=port, strict=strict, settings=settings, placing=placing)
        with endpoint, _page(endpoint, settings, data, ui_port) as page:
            stop.armed = True
            remember([Endpoint(name, endpoint.url, endpoint.key) for name in endpoint.names])
            _announce(endpoint, console, page.url if page else None, as_json=as_json)
            stop.wait()
            say("stopping: workers finish what they have taken")


def local_endpoint(
    data: Path,
    *,
    workers: int,
    port: int,
    settings: Settings,
    strict: bool = False,
    placing: Placing | None = None,
) -> LocalEndpoint:
    """Endpoints with workers on the models that the environment names, else on the demo models; see `serving`.

    Raises:
        InvalidInput: the port is taken, another endpoint has the data folder, or the environment is wrong.
    """
    data.mkdir(parents=True, exist_ok=True)
    paths = {"HANDLERS": settings.handlers, "MODELS": settings.models, "MODEL_DIR": settings.model_dir}
    models = {"MODEL_ID": settings.model_id, "GGML_REPO": settings.ggml_repo}
    paths |= {name: Path(value) for name, value in models.items() if value and value.startswith(("./", "../"))}
    env = {name: str(path.resolve()) for name, path in paths.items() if path}  # workers start in another folder
    together = len(placing.gpus.numbers) if placing else workers
    # each worker's torch would take every core, and spin for them
    env["OMP_NUM_THREADS"] = variable("OMP_NUM_THREADS") or str(max(1, (os.cpu_count() or 1) // together))
    try:
        return LocalEndpoint(
            data,
            workers=workers,
            port=port,
            env=env,
            endpoints=serving.endpoints(settings, data),
            key=_key(data, settings),
            strict=strict,
            allow_private_hosts=settings.allow_private_hosts,
            drain_s=settings.drain_s,
            ready_timeout_s=None,
            placing=placing,
        )
    except OSError as exc:
        raise InvalidInput(f"port {port} cannot be used ({exc.strerror}); choose another with --port") from exc


def _key(data: Path, settings: Settings) -> str:
    """The operator's key, else the folder's own, which an `up` after a crash has again: clients go on waiting."""
    if settings.pilotlight_api_key:
        return settings.pilotlight_api_key.get_secret_value()
    file = data / "key"
    kept = file.read_text().strip() if file.exists() else ""
    if not kept:  # or a crash of the machine has left an empty file
        kept = secrets.token_urlsafe(24)
        descriptor = os.open(part := data / "key.part", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as writing:
            writing.write(kept)
        part.replace(file)
    return kept


def _page(
    endpoint: LocalEndpoint, settings: Settings, data: Path, port: int | None
) -> AbstractContextManager[WebPage | None]:
    if port is None:
        return nullcontext()
    config = configuration(endpoint.url, serving.endpoints(settings, data))
    return web_page(config, {KEY: endpoint.key}, endpoint.logs, port)


def _announce(endpoint: LocalEndpoint, console: Console, page: str | None, *, as_json: bool) -> None:
    if as_json:
        said = {"url": endpoint.url, "key": endpoint.key, "endpoints": list(endpoint.names)}
        print(json.dumps(said | ({"page": page} if page else {})), flush=True)  # noqa: T201
        return
    if page:
        console.print(f"page:  {page}", soft_wrap=True)
    for name in endpoint.names:
        console.print(f"ready: {endpoint.url}/{name}", soft_wrap=True)
    if TEXT_GENERATION in endpoint.names:
        console.print(f"OpenAI's API: {endpoint.url}/{TEXT_GENERATION}/openai/v1", soft_wrap=True)
    console.print(f"key:   {endpoint.key}", soft_wrap=True)
    for name in endpoint.names:
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
