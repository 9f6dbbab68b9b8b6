"""Endpoints for the tests of this folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.platforms.harness import Endpoint


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
