"""Models that the app's functions download to the volume, in containers, from a hub on loopback."""

import json
from collections.abc import Iterator

import modal
import pytest

from tests.platforms.modal.conftest import APP
from tests.platforms.modal.containers import Commit
from tests.platforms.modal.plane import ROOT, Plane
from tests.platforms.model_volume import COMMIT, WEIGHTS, snapshot
from tests.shared.models.folders import REMOTE
from tests.shared.models.hub_server import HubServer, hub_server

MODEL = "acme/terms-to-accept"
OTHER = "acme/free"
GGUF = ROOT / "templates" / "demo_models" / "text-generation" / "model.gguf"
BY_CALL = Commit("models", by_call=True)


@pytest.fixture
def hub(plane: Plane) -> Iterator[HubServer]:
    """A hub that the containers know, with a model that only the secret's token may read, and a free one."""
    with hub_server() as hub:
        hub.add(MODEL, REMOTE, COMMIT).gated_for = frozenset({"hf_good"})
        hub.add(OTHER, {**REMOTE, "free.gguf": GGUF.read_bytes()}, COMMIT)
        models = plane.folder / "models.json"
        listed = ("acme/gone", MODEL, OTHER)
        models.write_text(json.dumps([{"pipeline": "text-to-image", "model_id": model} for model in listed]))
        plane.containers.env |= {
            "HF_ENDPOINT": hub.url.rstrip("/"),
            "HF_HUB_DISABLE_XET": "1",
            "MODELS": str(models),
        }
        yield hub


def test_the_command_downloads_a_model_with_terms_and_commits_it(plane: Plane, hub: HubServer) -> None:
    plane.secret("huggingface").env["HF_TOKEN"] = "hf_good"
    done = plane.modal("run", "-m", f"{APP}::download_model", "--model-id", MODEL)
    assert done.returncode == 0, done.stderr
    assert f"{MODEL}: at {COMMIT}" in done.stdout
    kept = snapshot(plane.volume("models"), MODEL)
    assert (kept / WEIGHTS).read_bytes() == REMOTE[WEIGHTS]
    assert BY_CALL in plane.containers.commits
    assert plane.service.unanswered == []


def test_everything_listed_is_downloaded_though_one_model_is_gone_and_one_has_terms(
    plane: Plane, hub: HubServer
) -> None:
    done = plane.modal("run", "-m", f"{APP}::download_all")
    assert done.returncode == 1
    assert f"{OTHER}: at {COMMIT}" in done.stdout
    assert "acme/gone: model_unavailable: the hub has no 'acme/gone'" in done.stdout
    assert f"{MODEL}: model_unavailable: '{MODEL}' is gated: accept its terms at" in done.stdout
    assert snapshot(plane.volume("models"), OTHER).exists()
    assert BY_CALL in plane.containers.commits


def test_one_file_of_a_repository_is_enough(plane: Plane, hub: HubServer) -> None:
    with plane.client_env():
        download = modal.Function.from_name("pilotlight", "download_model")
        download.remote(model_id=OTHER, filename="free.gguf")
    assert [f.name for f in snapshot(plane.volume("models"), OTHER).iterdir() if f.is_file()] == ["free.gguf"]
