"""The command line; each command imports the adapters that it uses, so that `--help` answers at once."""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from platforms import models
from platforms.endings import errors

if TYPE_CHECKING:
    from shared.jobs.client import Client

T = TypeVar("T")

app = typer.Typer(
    help="Run image and text pipelines on a queue: on this machine, or on an endpoint in the cloud.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(models.app, name="models")

Where = Annotated[str | None, typer.Option("--endpoint", help="Name on record, or URL. Default: the last `up`.")]
KeyEnv = Annotated[str | None, typer.Option(help="Variable that holds the endpoint's key.")]
Out = Annotated[Path, typer.Option(help="Where the files go.")]
JobId = Annotated[str, typer.Argument(help="The id that `run` printed.")]


@app.command()
def up(
    workers: Annotated[int, typer.Option(min=1, help="Workers of each endpoint; with --gpus, of each model.")] = 1,
    gpus: Annotated[
        str | None, typer.Option(help="Cards to place models on: `0,1` as nvidia-smi has them, or all.")
    ] = None,
    port: Annotated[int, typer.Option(min=0, help="Port on 127.0.0.1; 0 takes a free one.")] = 8400,
    data: Annotated[Path, typer.Option(help="Queue, results and logs.")] = Path(".pilotlight"),
    strict: Annotated[bool, typer.Option(help="Lose what RunPod loses: its limits and retention.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON when ready.")] = False,
    ui: Annotated[bool, typer.Option("--ui", help="Serve the web page too.")] = False,
    ui_port: Annotated[int, typer.Option(min=0, help="Its port on 127.0.0.1; 0 takes a free one.")] = 7860,
) -> None:
    """Start endpoints with workers on this machine, one for pictures and one for text, until interrupted."""
    from platforms.local.foreground import serve

    with errors():
        serve(
            workers=workers,
            port=port,
            data=data,
            strict=strict,
            as_json=as_json,
            gpus=gpus,
            ui_port=ui_port if ui else None,
        )


@app.command()
def serve(
    pipeline: Annotated[str | None, typer.Option(help="Serve this pipeline only. Default: PIPELINE, or all.")] = None,
    model_id: Annotated[str | None, typer.Option(help="Its model. Default: MODEL_ID, or the catalog's.")] = None,
    port: Annotated[int, typer.Option(min=0, help="Where to listen; 0 takes a free port.")] = 8000,
    host: Annotated[str, typer.Option(help="Off loopback, AUTH_TOKEN must be set.")] = "127.0.0.1",
) -> None:
    """Serve pipelines over HTTP: a request waits for its result. Stops on SIGTERM once what runs is answered."""
    from platforms.container import server
    from shared import logs
    from shared.settings import Settings

    with errors():
        named = {name: value for name, value in (("pipeline", pipeline), ("model_id", model_id)) if value}
        settings = Settings.from_env().model_copy(update=named)
        logs.set_up(settings.log_level)
        raise typer.Exit(server.serve(settings, host, port))


@app.command()
def openapi() -> None:
    """Print the OpenAPI document of the routes that `serve` has, of every pipeline."""
    from platforms.container.openapi import document

    typer.echo(document(), nl=False)


@app.command()
def schemas() -> None:
    """Print what the web page makes its forms of: ui_space/schemas.json, with the pipelines in HANDLERS too."""
    import handlers
    from platforms.forms import schemas_text
    from shared.settings import Settings

    with errors():
        typer.echo(schemas_text(handlers.Folders(Settings.from_env().handlers)), nl=False)


@app.command()
def run(
    pipeline: Annotated[str, typer.Argument(help="Such as text-to-image.")],
    prompt: Annotated[str | None, typer.Option(help="What to make, or what to ask.")] = None,
    image: Annotated[Path | None, typer.Option(help="Picture to start from.", exists=True, dir_okay=False)] = None,
    video: Annotated[Path | None, typer.Option(help="Video to work on.", exists=True, dir_okay=False)] = None,
    param: Annotated[list[str] | None, typer.Option(help="Any other parameter, as key=value.")] = None,
    endpoint: Where = None,
    key_env: KeyEnv = None,
    out: Out = Path("outputs"),
    detach: Annotated[
        bool, typer.Option("--detach", help="Print the job's id and leave; `wait` takes it up.")
    ] = False,
) -> None:
    """Submit a job, watch it, save what it made; text is printed as it is written. Ctrl-C cancels the job."""
    from platforms.text import run_text
    from platforms.watch import run_job
    from shared.models.catalog import TEXT_GENERATION

    given = {"pipeline": pipeline, **_params(param or [])}
    if prompt is not None:
        asked = {"messages": [{"role": "user", "content": prompt}]}  # to continue a text: --param prompt=...
        given |= asked if pipeline == TEXT_GENERATION else {"prompt": prompt}
    given |= {name: _data_url(file) for name, file in (("image", image), ("video", video)) if file is not None}
    with errors():
        client = _client(endpoint, pipeline, key_env)
        if detach:
            details = {"details": True} if pipeline == TEXT_GENERATION else {}  # with them text has its receipt
            typer.echo(client.submit({**given, **details}))
            return
        if pipeline == TEXT_GENERATION:
            run_text(client, given, out)
            return
        for file in run_job(client, given, out):
            typer.echo(file)


@app.command()
def wait(job_id: JobId, endpoint: Where = None, key_env: KeyEnv = None, out: Out = Path("outputs")) -> None:
    """Take up a job that was submitted before: watch it, save what it made. Ctrl-C leaves the job as it is."""
    from platforms.watch import follow

    def known(client: "Client") -> "Client":
        client.status(job_id)
        return client

    with errors():
        try:
            made = follow(_at_its_endpoint(known, endpoint, key_env), job_id, out)
        except KeyboardInterrupt:
            typer.echo(f"job {job_id} goes on", err=True)
            raise typer.Exit(130) from None
        for said in made:
            typer.echo(said)


@app.command()
def status(job_id: JobId, endpoint: Where = None, key_env: KeyEnv = None) -> None:
    """Print a job's state as JSON; pictures as their sizes."""
    from platforms.watch import readable

    with errors():
        job = _at_its_endpoint(lambda client: client.status(job_id), endpoint, key_env)
        typer.echo(json.dumps(readable(job), indent=2, ensure_ascii=False))


@app.command()
def cancel(job_id: JobId, endpoint: Where = None, key_env: KeyEnv = None) -> None:
    """Cancel a job."""
    with errors():
        typer.echo(_at_its_endpoint(lambda client: client.cancel(job_id), endpoint, key_env)["status"])


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Where pictures and results go.")] = Path("outputs/demo"),
) -> None:
    """See the whole system work: two endpoints, real workers, the demo models, pictures and text."""
    from platforms.local.demo import show

    with errors():
        show(out)


def main() -> None:
    """The entry point of the `pilotlight` command."""
    app()


def _client(endpoint: str | None, pipeline: str | None, key_env: str | None) -> "Client":
    from platforms.records import find
    from shared.jobs.client import Client
    from shared.settings import Settings

    found = find(endpoint, pipeline, Settings.from_env(), key_env)
    return Client(found.url, found.name, found.key)


def _at_its_endpoint(ask: "Callable[[Client], T]", endpoint: str | None, key_env: str | None) -> T:
    """The answer of the first endpoint that knows the job; `up` has several."""
    from platforms.records import find_all
    from shared.errors import NotFound
    from shared.jobs.client import Client
    from shared.settings import Settings

    *others, last = find_all(endpoint, Settings.from_env(), key_env)
    for found in others:
        with contextlib.suppress(NotFound):
            return ask(Client(found.url, found.name, found.key))
    return ask(Client(last.url, last.name, last.key))


def _params(pairs: list[str]) -> dict[str, Any]:
    given = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise typer.BadParameter(f"'{pair}' is not key=value")
        try:
            given[name] = json.loads(value)
        except json.JSONDecodeError:
            given[name] = value
    return given


def _data_url(file: Path) -> str:
    import base64
    import mimetypes

    kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    return f"data:{kind};base64,{base64.b64encode(file.read_bytes()).decode()}"


if __name__ == "__main__":
    main()
