"""The app, deployed once by Modal's command line; tests run jobs on copies of what that left."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.platforms.lab import HANDLERS as EXTRA
from tests.platforms.modal.plane import Plane
from tests.platforms.modal.records import Stock

AUTH_TOKEN = "token-of-clients"
APP = "platforms.modal.app"


@pytest.fixture(scope="session")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Stock:
    """What a deploy leaves at Modal."""
    with Plane(tmp_path_factory.mktemp("deploy")) as plane:
        plane.add_secret("api-auth-token", AUTH_TOKEN=AUTH_TOKEN)
        done = plane.modal("deploy", "-m", APP)
        assert done.returncode == 0, done.stderr
        assert plane.service.unanswered == []
        return plane.stock


@pytest.fixture(scope="session")
def own_deployed(tmp_path_factory: pytest.TempPathFactory, deployed: Stock) -> Stock:
    """What a second deploy leaves there, with handlers and a list of models kept outside of the checkout."""
    folder = tmp_path_factory.mktemp("own")
    with Plane(tmp_path_factory.mktemp("deploy-own"), deployed) as plane:
        plane.secret("huggingface").env["HF_TOKEN"] = "hf_mine"
        done = plane.modal("deploy", "-m", APP, HANDLERS=str(own_handlers(folder)), MODELS=str(own_models(folder)))
        assert done.returncode == 0, done.stderr
        return plane.stock


def own_handlers(folder: Path) -> Path:
    """Two pipelines, what one of them reads, and what is nobody's business."""
    mine = folder / "mine"
    for name in (".git", "__pycache__", "words"):
        (mine / name).mkdir(parents=True)
    shutil.copy(EXTRA / "sleep.py", mine / "nap.py")
    shutil.copy(EXTRA.parents[1] / "shared" / "text_handlers" / "meet.py", mine)
    (mine / "words" / "list.txt").write_text("one two")
    (mine / "requirements.txt").write_text("webcolors==25.10.0\n")
    for name in (".env", "my.env", ".git/config", "__pycache__/nap.cpython-311.pyc", "id.pem", "words/.netrc"):
        (mine / name).write_text("hush")
    return mine


def own_models(folder: Path) -> Path:
    """A model with places for two jobs, and one that writes."""
    file = folder / "models.json"
    model = "demo/text-generation"
    meet = {"pipeline": "meet", "model_id": model, "options": {"slots": 2}}
    file.write_text(json.dumps([meet, {"pipeline": "text-generation", "model_id": model}]))
    return file


@pytest.fixture
def plane(tmp_path: Path, deployed: Stock) -> Iterator[Plane]:
    """A plane of its own with the app on it."""
    with Plane(tmp_path, deployed) as plane:
        yield plane
