"""The container's OpenAPI document, as a container of every pipeline in this repository serves it."""

import json

import handlers
from platforms.container.health import Health
from platforms.container.performer import RunnerPerformer
from platforms.container.server import application
from platforms.container.warming import Warming
from shared.runner import Runner
from shared.settings import Settings


def document() -> str:
    """The document as JSON, sorted; of no machine's settings, and without loading a model."""
    runner = Runner(Settings(), handlers.Folders())
    app = application(runner, RunnerPerformer(runner, lambda reason: None), Warming(runner), Health())
    return json.dumps(app.openapi(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"
