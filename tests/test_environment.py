"""What is installed is what is locked: resolvers backtrack in silence."""

import importlib.metadata
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MATTER = (
    "torch",
    "runpod",
    "diffusers",
    "transformers",
    "huggingface-hub",
    "pydantic",
    "fastapi",
    "safetensors",
    "pillow",
)


def locked() -> dict[str, str]:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pairs = [line.split("==") for line in lines if "==" in line and not line.startswith("#")]
    return {_normal(name): version for name, version in pairs}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("name", MATTER)
def test_the_locked_version_is_installed(name: str) -> None:
    assert importlib.metadata.version(name).partition("+")[0] == locked()[name]


def test_torch_is_pinned_exactly() -> None:
    assert locked()["torch"] == "2.13.0"
    assert '"torch==2.13.0"' in (ROOT / "pyproject.toml").read_text()


def test_everything_installed_is_locked() -> None:
    """But for packaging's own tools, ourselves, and the CUDA wheels that torch's own metadata pins."""
    free = {"pip", "setuptools", "wheel", "pilotlight", "triton"}
    installed = {_normal(d.metadata["Name"]) for d in importlib.metadata.distributions()}
    assert {n for n in installed - set(locked()) - free if not n.startswith(("nvidia-", "cuda-"))} == set()


@pytest.mark.parametrize("name", ["torchvision", "torchaudio", "gradio"])
def test_what_would_replace_torch_or_runpod_is_absent(name: str) -> None:
    with pytest.raises(importlib.metadata.PackageNotFoundError):
        importlib.metadata.version(name)
