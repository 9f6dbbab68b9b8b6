"""The demo models, each loaded once a session."""

import pytest

from shared.device import Device
from shared.models import gguf
from shared.models.catalog import Entry
from shared.models.diffusion import Diffusion, load
from shared.models.store import Store


@pytest.fixture(scope="session")
def demo() -> Diffusion:
    import torch

    torch.set_num_threads(1)  # tiny tensors: a second thread only waits for the first
    return load(Store().ensure(Entry(pipeline="text-to-image", model_id="demo/text-to-image")), Device("cpu"))


@pytest.fixture(scope="session")
def writer() -> gguf.TextModel:
    entry = Entry(pipeline="text-generation", model_id="demo/text-generation", files=("model.gguf",))
    return gguf.load(Store().ensure(entry), Device("cpu", torch=False))
