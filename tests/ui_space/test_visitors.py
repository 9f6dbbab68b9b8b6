"""Twenty visitors at once."""

import json
import subprocess
from pathlib import Path

import pytest

from platforms.local.web_page import PYTHON
from tests.ui_space.conftest import Site

ROOT = Path(__file__).parents[2]
VISITORS = 20
MOST_GROWTH_KB = 30_000  # by a second round of as many visitors; the first one alone was seen to take 9,000


def come(site: Site, rounds: int) -> list[dict[str, object]]:
    """Let the visitors in, and return what became of each visit."""
    told = ["--url", site.url, "--visitors", str(VISITORS), "--rounds", str(rounds)]
    done = subprocess.run(
        [PYTHON, ROOT / "bench" / "visitors.py", *told], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:] or done.stdout
    visits: list[dict[str, object]] = json.loads(done.stdout)["visits"]
    return visits


def memory_kb(pid: int) -> int:
    """What the page's process holds."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


@pytest.mark.timeout(600)
def test_twenty_visitors_get_their_own_pictures_and_memory_stays(site: Site) -> None:
    visits = come(site, rounds=1)
    assert len({visit["job"] for visit in visits}) == VISITORS  # none lost, none shared
    for visit in visits:
        assert site.studio.client.status(str(visit["job"]))["status"] == "COMPLETED"
    before = memory_kb(site.pid)
    come(site, rounds=1)
    assert memory_kb(site.pid) - before < MOST_GROWTH_KB
