"""Which models of a catalog are damaged, by their headers."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from shared.models.catalog import Catalog, Entry
from shared.models.fitness import Unfit, unfit
from shared.models.store import Store
from tests.shared.models.folders import safetensors, write_files
from tests.shared.models.tiny_gguf import write

ROOT = Path(__file__).parents[3]
WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


def found(*entries: Entry) -> list[Unfit]:
    return list(unfit(Store(volumes=()), Catalog(list(entries))))


def entry(path: Path, pipeline: str = "text-to-image", *, warm: bool = False) -> Entry:
    return Entry(pipeline=pipeline, model_id=str(path), warm=warm)


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    folder = write_files(tmp_path / "whole")
    (folder / WEIGHTS).write_bytes(safetensors(64))
    return folder


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    folder = write_files(tmp_path / "damaged")
    (folder / WEIGHTS).write_bytes(safetensors(64)[:-1])
    return folder


def test_whole_models_are_fit(tmp_path: Path, whole: Path) -> None:
    (tmp_path / "one.safetensors").write_bytes(safetensors())
    text = write(tmp_path / "text.gguf")
    assert found(entry(whole), entry(tmp_path / "one.safetensors"), entry(text, "text-generation")) == []


def test_a_damaged_one_is_named_with_its_file(whole: Path, damaged: Path) -> None:
    (bad,) = found(entry(whole), entry(damaged))
    assert (bad.entry.model_id, bad.is_default) == (str(damaged), False)
    assert bad.error.message.startswith(f"{WEIGHTS} is damaged: ")
    assert str(damaged) not in bad.error.message


def test_the_first_of_each_pipeline_is_its_default(whole: Path, damaged: Path) -> None:
    entries = [entry(whole), entry(damaged), entry(damaged, "image-to-image"), entry(damaged, "image-to-image")]
    assert [bad.is_default for bad in found(*entries)] == [False, True, False]


@pytest.mark.parametrize("name", ["text.gguf", "text.q8_0.bin"])
def test_a_text_model_is_read_as_one_whatever_its_name_is(tmp_path: Path, name: str) -> None:
    file = write(tmp_path / "text.gguf").rename(tmp_path / name)
    assert found(entry(file, "text-generation")) == []
    file.write_bytes(file.read_bytes()[:100])
    (bad,) = found(entry(file, "text-generation"))
    assert bad.error.message.startswith(f"{name}: damaged or truncated")


def test_every_part_of_a_model_in_parts_is_read(tmp_path: Path) -> None:
    first = write(tmp_path / "parts.gguf", tensors_per_part=8)
    last = sorted(tmp_path.glob("*.gguf"))[-1]
    last.write_bytes(b"nonsense")
    (bad,) = found(entry(first, "text-generation"))
    assert bad.error.message.startswith(f"{last.name}: not a GGUF file")


def test_a_damaged_single_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "one.safetensors"
    file.write_bytes(b"nonsense")
    (bad,) = found(entry(file))
    assert "one.safetensors is damaged" in bad.error.message


def test_what_is_not_here_and_what_is_loaded_anyway_is_nobodys_loss(tmp_path: Path, damaged: Path) -> None:
    away = Entry(pipeline="text-to-image", model_id="Ours/Not-Here")
    assert found(away, entry(tmp_path / "none"), entry(damaged, warm=True)) == []


def test_no_torch_is_imported_for_it(damaged: Path) -> None:
    code = """
import json, sys
from shared.models.catalog import Catalog, Entry
from shared.models.fitness import unfit
from shared.models.store import Store
entries = [Entry(pipeline="text-to-image", model_id=sys.argv[1])]
found = list(unfit(Store(volumes=()), Catalog(entries)))
print(json.dumps([len(found), [name for name in ("torch", "diffusers", "xllamacpp") if name in sys.modules]]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(damaged)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == [1, []]
