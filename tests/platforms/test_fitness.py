"""What real workers do with damaged models on their volumes that nobody has asked to be warm."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from platforms.local.up import LocalEndpoint
from shared.errors import InsufficientCapacity, ModelUnavailable
from shared.jobs.client import Client
from tests.shared.models.folders import REMOTE, write_files

DEMO = Path(__file__).parents[2] / "templates" / "demo_models" / "text-generation" / "model.gguf"
NAME = "text-generation"
WEIGHTS = "unet/diffusion_pytorch_model.safetensors"
ASKED = {"prompt": "How many corners does a square have?", "stream": False, "temperature": 0}


def listed(folder: Path, *entries: dict[str, Any]) -> dict[str, str]:
    """The environment of a worker with these models."""
    file = folder / "models.json"
    file.write_text(json.dumps(entries))
    return {"MODELS": str(file), "PIPELINE": entries[0]["pipeline"]}


def text(file: Path) -> dict[str, Any]:
    return {"pipeline": NAME, "model_id": str(file)}


def damaged_text(folder: Path) -> Path:
    file = folder / "damaged.gguf"
    file.write_bytes(DEMO.read_bytes()[:5000])
    return file


def refusal(folder: Path, env: dict[str, str]) -> str:
    """What an endpoint says whose worker takes no job."""
    with pytest.raises(InsufficientCapacity) as said, LocalEndpoint(folder / "data", endpoints={NAME: env}):
        pass
    return str(said.value)


def test_a_worker_whose_default_model_is_damaged_takes_no_job(tmp_path: Path) -> None:
    said = refusal(tmp_path, listed(tmp_path, text(damaged_text(tmp_path)), text(DEMO)))
    assert "damaged.gguf: damaged or truncated: the header announces" in said


def test_a_damaged_checkpoint_is_found_before_torch_is_imported(tmp_path: Path) -> None:
    whole = {name: data for name, data in REMOTE.items() if not name.endswith((".fp16.safetensors", ".bin"))}
    model = write_files(tmp_path / "model", {**whole, WEIGHTS: REMOTE[WEIGHTS][:-1]})
    said = refusal(tmp_path, listed(tmp_path, {"pipeline": "text-to-image", "model_id": str(model)}))
    assert f"{WEIGHTS} is damaged: " in said
    assert '"device"' not in said


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[LocalEndpoint]:
    env = listed(tmp_path, text(DEMO), text(damaged_text(tmp_path)))
    with LocalEndpoint(tmp_path / "data", endpoints={NAME: env}) as endpoint:
        yield endpoint


def test_a_damaged_model_beside_the_default_one_is_logged_and_refused_by_name(
    endpoint: LocalEndpoint, tmp_path: Path
) -> None:
    with Client(endpoint.url, NAME, endpoint.key) as client:
        assert "four" in client.run(ASKED)[0]
        with pytest.raises(ModelUnavailable, match=r"damaged\.gguf: damaged or truncated"):
            client.run({**ASKED, "model_id": str(tmp_path / "damaged.gguf")})
        assert "four" in client.run(ASKED)[0]
    logs = "".join(file.read_text() for file in endpoint.logs.rglob("*.log"))
    (line,) = [line for line in logs.splitlines() if "a model is damaged" in line]
    assert "damaged.gguf: damaged or truncated" in line
