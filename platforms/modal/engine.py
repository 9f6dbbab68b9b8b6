"""What the app's containers are made of: a worker for a model, or the web application."""

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


def web_of(engine: Any, board: modal.Dict) -> Any:
    """The web application over the calls of the class `Engine`."""
    from platforms.modal.calls import EngineCalls, ModalBoard  # not in a card's container: half of its imports
    from platforms.modal.web import listed, web_app

    settings = Settings.from_env()
    logs.set_up(settings.log_level)
    registry = handlers.Folders(settings.handlers)
    return web_app(
        settings, registry, ModalBoard(board), EngineCalls(engine, listed(settings), settings.job_timeout_s)
    )
