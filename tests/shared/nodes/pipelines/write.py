"""Text that only nodes can write; a pipeline for tests."""

from pydantic import Field

from shared import openai
from shared.device import Device
from shared.schemas import Context, Handler, ModelParams, ModelSource


class WriteParams(ModelParams):
    """What to write on."""

    prompt: str = Field("once", description="The beginning.")
    stream: bool = Field(True, description="False: no pieces before the end.")


def load(source: ModelSource, device: Device) -> None:
    """No test gets here."""
    raise AssertionError("a model of a node was loaded here")


def run(model: None, params: WriteParams, ctx: Context) -> None:
    """Nor here."""
    raise AssertionError("a job of a node was run here")


handler = Handler(
    params=WriteParams,
    load=load,
    run=run,
    stream=True,
    torch=False,
    openai=Handler(params=openai.Request, load=load, run=run, stream=True, torch=False),
)
