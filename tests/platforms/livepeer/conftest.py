"""Containers that Livepeer's node could use, started once for all tests of this folder."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from tests.platforms.livepeer.container import ROOT, Container

TOKEN = "node-token"
LITTLE = {"num_inference_steps": 2, "num_frames": 3, "fps": 12}


def demo_catalog(folder: Path) -> Path:
    """A models.json of the demo models, which do little where a request leaves it open; none is loaded unasked."""
    listed = json.loads((ROOT / "templates" / "models.json").read_text())
    entries = [entry for entry in listed if entry["model_id"].startswith("demo/")]
    for entry in entries:
        own = entry.get("defaults", {})
        own.update({name: value for name, value in LITTLE.items() if name in own})
    path = folder / "models.json"
    path.write_text(json.dumps(entries))
    return path


@pytest.fixture(scope="session")
def external(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    """One for all demo models, behind a token, as the `url` and `token` of an aiModels.json name it."""
    folder = tmp_path_factory.mktemp("external")
    with Container(folder, {"MODELS": str(demo_catalog(folder)), "AUTH_TOKEN": TOKEN}) as started:
        yield started


@pytest.fixture(scope="session")
def managed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    """One that the node started itself for text, by the names that it has for both."""
    given = {"PIPELINE": "llm", "MODEL_ID": "demo/text-generation"}
    with Container(tmp_path_factory.mktemp("managed"), given) as started:
        yield started


@pytest.fixture(scope="session")
def picture() -> bytes:
    """A PNG of 64 x 64 pixels: a red circle on blue."""
    drawn = Image.new("RGB", (64, 64), (40, 60, 200))
    ImageDraw.Draw(drawn).ellipse((16, 16, 48, 48), fill=(210, 40, 40))
    file = io.BytesIO()
    drawn.save(file, "PNG")
    return file.getvalue()
