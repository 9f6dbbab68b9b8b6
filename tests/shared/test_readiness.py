"""What a runner says before its first job of the model that it was given."""

import shutil
import struct
from pathlib import Path
from typing import Literal

import pytest
import torch

import handlers
from shared.errors import InsufficientCapacity, ModelUnavailable
from shared.models.store import DEMO_MODELS
from shared.readiness import checks
from shared.runner import Runner
from shared.settings import Settings
from tests.lines import logged

MODEL = DEMO_MODELS / "text-generation" / "model.gguf"


def look(repository: Path, file: str) -> None:
    """All that a worker of the first worker's variables looks at before it takes a job."""
    settings = Settings.from_env({"GGML_REPO": str(repository), "GGML_FILE": file})
    for check in checks(Runner(settings, handlers.Folders())):
        check()


def header(version: int = 3, tensors: int = 0, pairs: int = 0) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, pairs)


def test_a_whole_file_is_all_right(tmp_path: Path) -> None:
    shutil.copy(MODEL, tmp_path)
    look(tmp_path, MODEL.name)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"tjgg" + bytes(100), "a GGML file from before GGUF"),
        (b"<html>", "not a GGUF file"),
        (header(pairs=2**60), "announces 1152921504606846976 metadata pairs"),
        (MODEL.read_bytes()[:5000], "truncated"),
        (MODEL.read_bytes()[:-1000], "download it again"),
    ],
    ids=["before-gguf", "no-gguf", "absurd", "in-its-header", "in-its-tensors"],
)
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes, complaint: str) -> None:
    file = tmp_path / "model.q8_0.bin"
    file.write_bytes(content)
    with pytest.raises(ModelUnavailable, match=complaint) as said:
        look(tmp_path, file.name)
    assert file.name in said.value.message


def test_a_repository_without_the_file_is_named(tmp_path: Path) -> None:
    shutil.copy(MODEL, tmp_path / "a.gguf")
    with pytest.raises(ModelUnavailable) as said:
        look(tmp_path, "b.gguf")
    assert str(tmp_path) in said.value.message


def device_works(device: Literal["auto", "cpu", "cuda"], pipeline: str) -> None:
    settings = Settings(pipeline=pipeline, model_id=f"demo/{pipeline}", device=device)
    (check,) = (each for each in checks(Runner(settings, handlers.Folders())) if each.__name__ == "device_works")
    check()


@pytest.mark.parametrize("pipeline", ["text-to-image", "text-generation"])
def test_a_card_that_is_not_there_is_missed_with_what_to_do(pipeline: str) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a card")
    with pytest.raises(InsufficientCapacity, match=r"nothing can be run on cuda: .*; .*--gpus all"):
        device_works("cuda", pipeline)


@pytest.mark.parametrize("pipeline", ["text-to-image", "text-generation"])
def test_a_worker_without_a_card_says_so_once_unless_it_was_told_to_do_without(pipeline: str) -> None:
    if torch.cuda.is_available() or torch.backends.mps.is_available():
        pytest.skip("there is a card")
    with logged() as lines:
        device_works("cpu", pipeline)
        assert lines.records == []
        device_works("auto", pipeline)
    assert [line.getMessage() for line in lines.records] == ["no card is to be seen: models run on the CPU"]
