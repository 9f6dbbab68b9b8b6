"""What the app's containers are made of: a worker for a model, or the web application."""

import time
from typing import Any

import modal
import modal.experimental

import handlers
from platforms.modal.worker import ModalWorker
from shared import logs
from shared.runner import Runner
from shared.settings import Settings


def worker_of(pipeline: str, model_id: str, board: modal.Dict, models: modal.Volume) -> ModalWorker:
    """The worker of a container for one model; `pipeline` alone where it runs the models of other pipelines."""
    settings = Settings.from_env().model_copy(update={"pipeline": pipeline, "model_id": model_id or None})
    logs.set_up(settings.log_level)
    runner = Runner(settings, handlers.Folders(settings.handlers))
    return ModalWorker(runner, board, look_again=models.reload, take_no_more=modal.experimental.stop_fetching_inputs)


def web_of(app: str, board: modal.Dict, models: modal.Volume) -> Any:
    """The web application over the calls of an app's class `Engine` and of its function `webhook`."""
    from platforms.modal.calls import EngineCalls, ModalBoard  # not in a card's container: half of its imports
    from platforms.modal.volume import ModelVolume
    from platforms.modal.web import listed, web_app

    settings = Settings.from_env()
    logs.set_up(settings.log_level)
    registry = handlers.Folders(settings.handlers)
    engine, webhook = modal.Cls.from_name(app, "Engine"), modal.Function.from_name(app, "webhook")
    calls = EngineCalls(engine, webhook, listed(settings), settings)
    return web_app(settings, registry, ModalBoard(board), calls, ModelVolume(models))


def webhooks_of(board: modal.Dict) -> Any:
    """What tells of jobs that have ended."""
    from platforms.modal.calls import EngineCalls, ModalBoard
    from platforms.modal.webhooks import Webhooks, post_of

    settings = Settings.from_env()
    logs.set_up(settings.log_level)
    return Webhooks(ModalBoard(board), EngineCalls.ended, post_of(settings), time.time)
