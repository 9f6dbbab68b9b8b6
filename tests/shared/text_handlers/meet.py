"""Two jobs that each wait for the other, on a model that has places for both; a pipeline for tests."""

import threading

from pydantic import Field

from shared.device import Device
from shared.schemas import Context, Handler, ModelParams, ModelSource

WAIT_S = 20


class MeetParams(ModelParams):
    """Whether to wait."""

    wait: bool = Field(True, description="False: go on alone.")


class Room:
    """A model for two."""

    slots = 2

    def __init__(self) -> None:
        self.both = threading.Barrier(2)


def load(source: ModelSource, device: Device) -> Room:
    """A model that needs no files but those that make a folder whole."""
    return Room()


def run(model: Room, params: MeetParams, ctx: Context) -> None:
    """Say whom one has met."""
    if params.wait:
        model.both.wait(WAIT_S)
    ctx.text("met" if params.wait else "alone")


handler = Handler(params=MeetParams, run=run, load=load, stream=True, concurrent=True, torch=False)
