"""A command line whose models are on a volume of its own, and come from a hub on loopback."""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.platforms.terminal import Terminal
from tests.shared.models.hub_server import HubServer

COMMIT = "2" * 40
WEIGHTS = "unet/diffusion_pytorch_model.fp16.safetensors"


def entry(model_id: str, pipeline: str = "text-to-image", **more: Any) -> dict[str, Any]:
    """An entry of a models.json."""
    return {"pipeline": pipeline, "model_id": model_id, **more}


def terminal_with(folder: Path, hub: HubServer, entries: Sequence[dict[str, Any]]) -> Terminal:
    """A terminal whose MODEL_DIR is the folder's `volume`."""
    terminal = Terminal(folder, models=entries)
    terminal.env |= {
        "HF_ENDPOINT": hub.url.rstrip("/"),
        "HF_HUB_CACHE": str(folder / "of-other-tools"),
        "HF_HUB_DISABLE_XET": "1",
        "MODEL_DIR": str(folder / "volume"),
        "TERM": "xterm",
    }
    return terminal


def models(terminal: Terminal, *args: str, code: int = 0, **env: str) -> "subprocess.CompletedProcess[str]":
    """What a command prints that ends as it should."""
    done = terminal.run("models", *args, **env)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


def told(terminal: Terminal, *args: str, code: int = 0, **env: str) -> Any:
    """The JSON document that a command writes, which is all that it writes on stdout."""
    return json.loads(models(terminal, *args, "--json", code=code, **env).stdout)


def snapshot(volume: Path, model_id: str, commit: str = COMMIT) -> Path:
    """Where a model's files are."""
    return volume / f"models--{model_id.replace('/', '--')}" / "snapshots" / commit


def damage(file: Path) -> None:
    """Another last byte."""
    file.chmod(0o644)
    file.write_bytes(file.read_bytes()[:-1] + b"?")
