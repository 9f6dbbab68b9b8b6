"""The hub from which most tests of models download, their clock, and models that draw and write."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from shared.models.gguf import TextModel
from tests.clock import Clock
from tests.shared.conftest import Checkpoint
from tests.shared.models.folders import REMOTE
from tests.shared.models.hub_server import HubServer, hub_server
from tests.shared.models.stores import MODEL, NEW
from tests.shared.models.talk import DEMO, open_model
from tests.shared.models.tiny_gguf import write

if TYPE_CHECKING:
    from shared.models.diffusion import Diffusion


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def served() -> Iterator[HubServer]:
    with hub_server() as server:
        server.add(MODEL, REMOTE, NEW)
        yield server


@pytest.fixture(scope="session")
def warm(checkpoint: Checkpoint) -> "dict[str, Diffusion]":
    """Each tiny checkpoint of a diffusion model, loaded."""
    from shared.models.diffusion import load
    from tests.shared.models.drawing import CPU, source
    from tests.shared.models.tiny import CHECKPOINTS

    return {name: load(source(checkpoint(name)), CPU) for name in CHECKPOINTS}


@pytest.fixture(scope="module")
def demo_text() -> TextModel:
    return open_model(DEMO, slots=2)


@pytest.fixture(scope="module")
def endless_text(tmp_path_factory: pytest.TempPathFactory) -> TextModel:
    """Goes on until its tokens are used up."""
    return open_model(write(tmp_path_factory.mktemp("gguf") / "endless.gguf"), slots=2, context=256)
