"""The app, deployed once by Modal's command line; tests run jobs on copies of what that left."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.platforms.modal.plane import Plane
from tests.platforms.modal.records import Stock

AUTH_TOKEN = "token-of-clients"
APP = "platforms.modal.app"


@pytest.fixture(scope="session")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Stock:
    """What a deploy leaves at Modal."""
    with Plane(tmp_path_factory.mktemp("deploy")) as plane:
        plane.add_secret("api-auth-token", AUTH_TOKEN=AUTH_TOKEN)
        done = plane.modal("deploy", "-m", APP)
        assert done.returncode == 0, done.stderr
        assert plane.service.unanswered == []
        return plane.stock


@pytest.fixture
def plane(tmp_path: Path, deployed: Stock) -> Iterator[Plane]:
    """A plane of its own with the app on it."""
    with Plane(tmp_path, deployed) as plane:
        yield plane
