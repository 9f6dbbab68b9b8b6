"""Endpoints for the tests of this folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.platforms.harness import Endpoint
from tests.platforms.stage import Stage


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[Endpoint]:
    with Endpoint(tmp_path / "data") as served:
        yield served


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """One for tests that leave nothing behind."""
    with Endpoint(tmp_path_factory.mktemp("standing")) as served:
        yield served


@pytest.fixture
def strict(tmp_path: Path) -> Iterator[Endpoint]:
    with Endpoint(tmp_path / "data", strict=True) as served:
        yield served


@pytest.fixture(scope="session")
def shared_stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with Stage(tmp_path_factory.mktemp("stage")) as stage:
        yield stage


@pytest.fixture
def stage(shared_stage: Stage) -> Stage:
    """An idle worker that streams, and an empty diary."""
    shared_stage.new_diary()
    shared_stage.until_idle()
    return shared_stage
