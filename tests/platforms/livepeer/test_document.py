"""The document that a container serves, and whether it keeps to it: schemathesis asks whatever it allows."""

import json
import subprocess
import sysconfig
from pathlib import Path

import pytest

from shared.settings import inherited
from tests.platforms.livepeer import wire
from tests.platforms.livepeer.conftest import TOKEN
from tests.platforms.livepeer.container import ROOT, Container

SCHEMATHESIS = Path(sysconfig.get_path("scripts")) / "schemathesis"
HOOKS = "tests.platforms.livepeer.small_requests"
PATIENCE_S = "600"
LONGEST_S = 1500
# They call a request right or wrong by its schema alone, which does not say which fields go together.
NOT_BY_SCHEMA = "positive_data_acceptance,negative_data_rejection"


def keeps_to_its_document(container: Container, folder: Path, *options: str) -> None:
    """Send requests of all kinds to all routes: no 5xx, and no answer that the document does not know."""
    command = [
        *(str(SCHEMATHESIS), "run", f"{container.url}/openapi.json", "--header", f"Authorization: Bearer {TOKEN}"),
        *("--checks", "all", "--exclude-checks", NOT_BY_SCHEMA, "--no-color", *options),
        *("--request-timeout", PATIENCE_S, "--max-response-time", PATIENCE_S),
    ]
    env = inherited(SCHEMATHESIS_HOOKS=HOOKS, PYTHONPATH=str(ROOT))
    assert subprocess.run(command, cwd=folder, env=env, check=False).returncode == 0, "it says above what was wrong"
    assert container.process.poll() is None


def test_the_container_keeps_to_its_document(external: Container, tmp_path: Path) -> None:
    keeps_to_its_document(external, tmp_path, "--phases", "fuzzing", "--max-examples", "8", "--seed", "1")


@pytest.mark.fuzz
@pytest.mark.timeout(LONGEST_S)
def test_the_container_keeps_to_its_document_for_long(external: Container, tmp_path: Path) -> None:
    keeps_to_its_document(external, tmp_path, "--phases", "coverage,fuzzing", "--max-examples", "100")


def test_what_is_served_is_what_is_checked_in(external: Container) -> None:
    assert wire.get(external.url, "/openapi.json").json() == json.loads((ROOT / "openapi.json").read_text())
