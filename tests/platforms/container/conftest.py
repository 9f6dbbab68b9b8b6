"""A container for the tests that leave it as it was."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.platforms.container.box import Box

CHAT = Path(__file__).parent / "chat_handlers"


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    with Box(tmp_path_factory.mktemp("box")) as served:
        yield served


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """One whose `text-generation` repeats what it is told, without a model."""
    with Box(tmp_path_factory.mktemp("chat"), handlers=CHAT, pipeline="text-generation") as served:
        yield served


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """One that asks for a key."""
    with Box(tmp_path_factory.mktemp("keyed"), auth_token="the key") as served:
        yield served
