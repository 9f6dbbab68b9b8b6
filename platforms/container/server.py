"""Serves the container: listens at once, warms the models beside it, and drains when it is told to stop."""

import asyncio
import contextlib
import ipaddress
import os
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from typing import cast

import uvicorn
from fastapi import FastAPI

import handlers
from platforms.container.app import container_app
from platforms.container.connections import Connection, ask_who_is_there
from platforms.container.health import Health, version_of
from platforms.container.memory import keep_freed_memory
from platforms.container.performer import RunnerPerformer
from platforms.container.warming import Warming
from shared import logs
from shared.about import AboutRunner, named_first
from shared.errors import ENDINGS, InsufficientCapacity, InvalidInput, ModelUnavailable
from shared.hardware import Cards
from shared.jobs import llm
from shared.jobs.about import about_router
from shared.jobs.warm import warm_router
from shared.models.catalog import TEXT_GENERATION
from shared.readiness import checks
from shared.runner import Runner
from shared.settings import Settings, visible_cards

LOOK_EVERY_S = 1.0
TOLD_S = 6.0  # a container that cannot run says so for that long: Livepeer's node looks each 5 s
ANSWERED_S = 1.0  # for what was refused or cancelled at the end to be answered
AFTER_DRAIN_S = 5.0  # for jobs that were stopped at the end of the drain to leave the device


def serve(settings: Settings, host: str, port: int) -> int:
    """Serve until a signal comes; returns the exit code.

    Raises:
        InvalidInput: the address cannot be used, or not without a key; or the environment is wrong.
        NotFound: no such pipeline.
    """
    is_open, as_asked = _check_address(settings, host), settings.pipeline
    if as_asked == llm.NAME:
        settings = settings.model_copy(update={"pipeline": llm.PIPELINE})
    keep_freed_memory()
    runner = Runner(settings, handlers.Folders(settings.handlers))
    try:
        listening = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as exc:
        raise InvalidInput(f"{host}:{port} cannot be used ({exc.strerror}); choose another port") from exc
    with listening:
        server = ContainerServer(runner, listening, is_open=is_open, as_asked=as_asked)
        with asyncio.Runner(loop_factory=server.loop_factory) as loop:
            code = loop.run(server.run())
    if server.is_stuck:
        os._exit(code)  # threads that do not end would keep the process
    return code


def _check_address(settings: Settings, host: str) -> bool:
    """Whether the container is open to anybody, which only loopback and the image may be."""
    if settings.auth_token:
        return False
    if not (is_loopback(host) or settings.serve_open):
        raise InvalidInput(f"set AUTH_TOKEN to listen on {host}: anybody there could use this machine")
    if not is_loopback(host):
        logs.logger.warning("serving without a key: set AUTH_TOKEN unless only you can reach this address")
    return True


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def application(
    runner: Runner, performer: RunnerPerformer, warming: Warming, health: Health, as_asked: str | None = None
) -> FastAPI:
    """What a runner serves; `as_asked` is the pipeline's name that was asked for, where that is another one."""
    settings = runner.settings
    pipeline, model_id = named_first(runner)
    about = AboutRunner(runner, Cards(visible_cards()), as_asked)
    performer.on_refusal = about.telemetry.refused
    return container_app(
        {name: runner.registry.get(name) for name in runner.planner.pipelines},
        performer,
        health,
        version_of(as_asked or pipeline, model_id),
        token=settings.auth_token.get_secret_value() if settings.auth_token else None,
        max_media_bytes=settings.max_media_bytes,
        on_refusal=about.telemetry.refused,
        livepeer_statuses=settings.livepeer_statuses,
        text_model=next((e.full_id for e in runner.planner.catalog.entries if e.pipeline == TEXT_GENERATION), ""),
        about=[
            about_router(about),
            warm_router(warming.warm),
        ],
    )


class ContainerServer:
    """One container: an application on a socket, over one runner."""

    def __init__(
        self, runner: Runner, listening: socket.socket, *, is_open: bool, as_asked: str | None = None
    ) -> None:
        """Args: `as_asked` is the pipeline's name by which it was asked for, where that is another one."""
        settings = runner.settings
        self.port: int = listening.getsockname()[1]
        self.is_stuck = False
        self.health = Health(is_open=is_open)
        self.performer = RunnerPerformer(runner, self._ruined)
        self.warming = Warming(runner)
        self._runner = runner
        self._drain_s = settings.drain_s
        self._load_timeout_s = settings.load_timeout_s
        self._listening = listening
        ask_who_is_there(listening)
        self._exit_code = 0
        self._stopping: asyncio.Task[None] | None = None
        self.health.is_busy = self.performer.is_busy
        app = application(runner, self.performer, self.warming, self.health, as_asked)
        config = uvicorn.Config(
            app,
            http=Connection,
            ws="none",
            log_config=None,
            access_log=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=2,
        )
        self.loop_factory = config.get_loop_factory()
        self._server = _Uvicorn(config)

    async def run(self) -> int:
        """Serve until told to stop; returns the exit code."""
        self._loop = asyncio.get_running_loop()
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._loop.add_signal_handler(number, self.stop)
        threading.Thread(target=self._warm, name="warm", daemon=True).start()
        looking = asyncio.create_task(self._look())
        await self._server.serve(sockets=[self._listening])
        looking.cancel()
        self.is_stuck |= self.performer.inside() > 0 or not self.health.is_ready or self.warming.is_loading()
        return self._exit_code

    def stop(self) -> None:
        """Drain and end; the second time, at once. To be called on the loop."""
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._drain())
        else:
            self._stop_all()
            self._server.should_exit = True

    def _warm(self) -> None:
        """Check that this worker can run its jobs, and load its models; on a thread of its own."""
        reason = None
        try:
            self._runner.read_ahead()
            for check in checks(self._runner):
                check()
        except ENDINGS as error:
            reason = str(error)
        except BaseException as error:  # noqa: BLE001 whatever it is, nobody else would hear of it
            logs.logger.error("the models cannot be loaded", exc_info=error)
            reason = f"internal: {type(error).__name__}; the log has it"
        with contextlib.suppress(RuntimeError):  # the loop is gone: the process is ending
            self._loop.call_soon_threadsafe(self._warmed, reason)

    def _warmed(self, reason: str | None) -> None:
        if reason is None:
            self.health.is_ready = True
            self.performer.ready()
            logs.logger.info("ready", extra={"fields": {"port": self.port}})
            return
        self.performer.fail(reason)
        self._end(reason, after_s=TOLD_S)

    def _ruined(self, reason: str) -> None:
        self.is_stuck = True
        self._end(reason, after_s=ANSWERED_S)

    def _end(self, reason: str, *, after_s: float) -> None:
        """Say what is wrong for a while, and end with 1."""
        if self.health.error is None:
            logs.logger.error("this worker ends", extra={"fields": {"reason": reason}})
            self.health.error, self._exit_code = reason, 1
            self._loop.call_later(after_s, self._exit)

    def _exit(self) -> None:
        self._server.should_exit = True

    async def _drain(self) -> None:
        """Take nothing new; finish what is here within the time that there is; stop the rest."""
        self.health.is_draining = True
        self.performer.refuse(_stops())
        self.warming.stop(_stops())
        logs.logger.info("draining", extra={"fields": {"requests": self.performer.inside()}})
        if not await self._emptied(self._drain_s):
            self._stop_all()
            await self._abandon_unless_emptied(AFTER_DRAIN_S)
        self._exit()

    def _stop_all(self) -> None:
        self.performer.cancel_all(_stops())
        for connection in self.connections():
            connection.drop()

    async def _abandon_unless_emptied(self, within_s: float) -> None:
        if not await self._emptied(within_s):
            self.is_stuck = True  # a job has its thread, and does not hear that it is to stop
            self.performer.abandon(_stops())
            await self._emptied(ANSWERED_S)

    async def _emptied(self, within_s: float) -> bool:
        until = self._loop.time() + within_s
        while self.performer.is_busy() or any(connection.is_unread() for connection in self.connections()):
            if self._loop.time() > until:
                return False
            await asyncio.sleep(0.02)
        return True

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            self.performer.look()
            self._look_at_loading()
            for connection in self.connections():
                connection.look(self._loop.time())

    def _look_at_loading(self) -> None:
        """End where a load does not: nothing else would ever get the device."""
        overdue = self._runner.pool.loading.overdue(self._load_timeout_s)
        if overdue and self.health.error is None:
            logs.logger.error("loading does not end", extra={"fields": {"what": overdue}})
            reason = f"a model was not loaded within {self._load_timeout_s:g} s (LOAD_TIMEOUT_S); the log names it"
            self.is_stuck = True
            self.performer.fail(reason)
            self.warming.stop(ModelUnavailable(reason))
            self._end(reason, after_s=TOLD_S)

    def connections(self) -> Sequence[Connection]:
        """Those that are open."""
        return cast("list[Connection]", list(self._server.server_state.connections))


def _stops() -> InsufficientCapacity:
    return InsufficientCapacity("this worker stops; send the request again, to another", retry_after_s=1)


class _Uvicorn(uvicorn.Server):
    """uvicorn, but for its signal handlers: it would stop listening at once."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
