"""What several tiers share: endpoints with real workers on the demo models, started once, by the first that asks."""

from collections.abc import Iterator

import pytest

from tests.studio import Studio, TextStudio

RECEIPT_KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


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
