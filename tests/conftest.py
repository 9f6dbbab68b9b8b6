"""What several tiers share: one endpoint with a real worker on the demo models, started once."""

from collections.abc import Iterator

import pytest

from tests.studio import Studio


@pytest.fixture(scope="session")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    studio = Studio(tmp_path_factory.mktemp("studio"), RECEIPT_KEY="AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
    with studio.endpoint:
        yield studio
        studio.client.close()
