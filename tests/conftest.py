"""What several tiers share: endpoints with real workers on the demo models, started once, by the first that asks."""

import gc
import signal
from collections.abc import Iterator

import pytest

from shared.logs import logger
from tests.lines import Lines, logged
from tests.studio import Studio, TextStudio

RECEIPT_KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


def pytest_configure() -> None:
    """A shell lets what it starts in the background ignore Ctrl-C, and with it every process that the tests start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    studio = Studio(tmp_path_factory.mktemp("studio"), RECEIPT_KEY=RECEIPT_KEY)
    with studio.endpoint:
        yield studio
        studio.client.close()


@pytest.fixture(scope="session")
def text_studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TextStudio]:
    studio = TextStudio(tmp_path_factory.mktemp("text-studio"), RECEIPT_KEY=RECEIPT_KEY)
    with studio.endpoint:
        yield studio
        studio.client.close()


@pytest.fixture
def lines() -> Iterator[Lines]:
    with logged() as lines:
        yield lines


@pytest.fixture(autouse=True)
def _log_as_it_was() -> Iterator[None]:
    """Entry points that run in the tests' own process set the log up for all that follows."""
    handlers, level, propagate = logger.handlers[:], logger.level, logger.propagate
    yield
    logger.handlers[:], logger.propagate = handlers, propagate
    logger.setLevel(level)


@pytest.fixture(autouse=True, scope="module")
def _what_is_imported_is_not_looked_through() -> None:
    """Each collection by an evicted model would take a second, for all that torch and its like are made of."""
    gc.collect()
    gc.freeze()
