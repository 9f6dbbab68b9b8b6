"""Say which process ran the job, on which card, and hold it for a while; a pipeline for tests, without torch."""

import os
import time
from pathlib import Path

from pydantic import Field

from shared.device import Device
from shared.schemas import Context, Handler, ModelParams, ModelSource


class CensusParams(ModelParams):
    """How long to hold the card."""

    ms: float = Field(0, ge=0, description="Milliseconds in all.")
    gate: str = Field("", description="A file without which it does not end.")
    die: str = Field("", description="A file; where it is not there, it is made, and the process ends.")


def load(source: ModelSource, device: Device) -> str:
    """The model's id is all there is to load; a file `broken` says what is raised, and `slow` how long it takes."""
    if (source.path / "broken").exists():
        raise RuntimeError((source.path / "broken").read_text() or "this model cannot be loaded")
    while (source.path / "slow").exists():
        time.sleep(0.005)
    return source.model_id


def run(model: str, params: CensusParams, ctx: Context) -> None:
    """Wait, and tell."""
    if params.die and not Path(params.die).exists():
        Path(params.die).touch()
        os.abort()
    time.sleep(params.ms / 1000)
    while params.gate and not Path(params.gate).exists():
        ctx.check()
        time.sleep(0.005)
    ctx.note(pid=os.getpid(), card=os.environ.get("CUDA_VISIBLE_DEVICES"), order=os.environ.get("CUDA_DEVICE_ORDER"))


handler = Handler(params=CensusParams, load=load, run=run, torch=False)
