"""The web function and the webhooks' one need nothing that their small image has not."""

import os
import subprocess
import sys
from importlib.metadata import packages_distributions

from tests.platforms.modal.plane import COMMAND, ROOT

MADE = """
import asyncio
import sys

class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in hidden:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

hidden = set(sys.argv[1].split(","))
sys.meta_path.insert(0, Nothing())
import modal
from platforms.modal import app, engine
made = engine.web_of("pilotlight", app.board, app.models)
engine.webhooks_of(app.board)
asked = {"type": "http", "method": "POST", "path": "/text-to-image", "query_string": b"", "headers": []}

async def receive():
    return {"type": "http.request", "body": b"{}"}

async def send(said):
    print(said.get("status", ""))

asyncio.run(made(asked, receive, send))
"""


def hidden() -> set[str]:
    """Modules of this environment that neither the web function's requirements nor Modal's client bring."""
    listed = (ROOT / "platforms" / "modal" / "requirements-web.txt").read_text().splitlines()
    theirs = {_canonical(line.partition("==")[0]) for line in listed}
    of_modal = {
        file.name.partition(".")[0] for file in next(COMMAND.parents[1].glob("lib/*/site-packages")).iterdir()
    }
    ours = {"handlers", "platforms", "shared", "templates", "tests"}
    homes = packages_distributions()
    return {name for name, dists in homes.items() if not theirs & set(map(_canonical, dists))} - of_modal - ours


def _canonical(name: str) -> str:
    return name.lower().replace("_", "-")


def test_it_is_made_of_what_its_image_has() -> None:
    lacking = hidden()
    assert {"torch", "huggingface_hub", "uvicorn"} <= lacking
    env = {**os.environ, "AUTH_TOKEN": "t", "MODAL_CONFIG_PATH": os.devnull}
    command = [sys.executable, "-c", MADE, ",".join(sorted(lacking))]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["401"]
