"""The first container's command that writes its document, from a folder of its user's."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_it_writes_the_document_that_is_checked_in(tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(ROOT / "scripts" / "gen_openapi.py")], cwd=tmp_path, timeout=60, check=True)
    assert (tmp_path / "openapi.json").read_bytes() == (ROOT / "openapi.json").read_bytes()
