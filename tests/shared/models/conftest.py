"""The hub from which most tests of models download, and their clock."""

from collections.abc import Iterator

import pytest

from tests.clock import Clock
from tests.shared.models.folders import REMOTE
from tests.shared.models.hub_server import HubServer, hub_server
from tests.shared.models.stores import MODEL, NEW


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def served() -> Iterator[HubServer]:
    with hub_server() as server:
        server.add(MODEL, REMOTE, NEW)
        yield server
