"""What is loaded as a text model, and what is refused."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from shared.errors import ModelUnavailable
from shared.models import readahead, volumes
from shared.models.gguf import TextModel
from tests.shared.models.talk import DEMO, QUESTIONS, ROOT, SQUARE, open_model, pieces
from tests.shared.models.tiny_gguf import write


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(ModelUnavailable) as caught:
        open_model(path, **options)
    assert str(path.parent) not in caught.value.message
    return caught.value.message


def test_a_file_is_loaded(demo_text: TextModel) -> None:
    assert "four" in "".join(pieces(demo_text, SQUARE))


@pytest.mark.parametrize("networked", [True, False])
def test_on_a_network_volume_a_file_is_read_and_never_mapped(
    tmp_path: Path, demo_text: TextModel, networked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = Path(shutil.copy(DEMO, tmp_path / "copy.gguf"))
    if networked:
        monkeypatch.setattr(volumes, "NETWORKS", ("",))
    model = open_model(file)
    assert [pieces(model, question) for question in QUESTIONS] == [
        pieces(demo_text, question) for question in QUESTIONS
    ]
    assert (str(file) in Path("/proc/self/maps").read_text()) is not networked


def test_on_a_network_volume_a_file_is_not_mapped_where_memory_does_not_hold_it_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(volumes, "NETWORKS", ("",))
    monkeypatch.setattr(readahead, "ROOM", 1e9)
    file = write(tmp_path / "says.gguf", says="one")
    assert "".join(pieces(open_model(file), "?")) == "one"
    assert str(file) not in Path("/proc/self/maps").read_text()


def test_a_folder_with_one_file_is_loaded(tmp_path: Path) -> None:
    write(tmp_path / "best-of-breed.gguf", says="one")
    assert "".join(pieces(open_model(tmp_path), "?")) == "one"


def test_a_folder_with_several_files_names_them(tmp_path: Path) -> None:
    for name in ("a.gguf", "b.gguf"):
        write(tmp_path / name)
    assert "there are: a.gguf, b.gguf" in refusal(tmp_path)
    (tmp_path / "empty").mkdir()
    assert "there are: none" in refusal(tmp_path / "empty")


def test_a_model_in_parts_is_loaded_by_its_folder_or_by_any_part(tmp_path: Path) -> None:
    first = write(tmp_path / "parts.gguf", says="part", tensors_per_part=8)
    last = sorted(tmp_path.glob("*.gguf"))[-1]
    assert last != first
    for path in (tmp_path, first, last):
        assert "".join(pieces(open_model(path), "?")) == "part"


def test_a_part_that_is_missing_or_damaged_is_named(tmp_path: Path) -> None:
    first = write(tmp_path / "parts.gguf", tensors_per_part=8)
    second = sorted(tmp_path.glob("*.gguf"))[1]
    second.write_bytes(second.read_bytes()[:40])
    assert second.name in refusal(first)
    second.unlink()
    assert f"{second.name} cannot be read" in refusal(first)


def test_a_file_that_ends_within_its_last_tensor_is_named(tmp_path: Path) -> None:
    file = write(tmp_path / "ours.gguf")
    file.write_bytes(file.read_bytes()[:-100])
    assert refusal(file).startswith("ours.gguf: llama.cpp cannot load it")


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.gguf").startswith("none.gguf cannot be read")


@pytest.mark.parametrize(
    "options", [{"contxt": 5}, {"context": 8}, {"context": "4096"}, {"slots": 0}, {"slots": True}]
)
def test_an_option_that_cannot_be_kept_is_named(options: dict[str, Any]) -> None:
    with pytest.raises(ModelUnavailable, match=f"option.*{next(iter(options))}"):
        open_model(DEMO, **options)


def test_damaged_tables_of_tensors_are_refused_and_end_no_process(tmp_path: Path) -> None:
    """Flipped bytes in the list of tensors, in a process of their own: llama.cpp can end it."""
    code = """
import random, sys
from pathlib import Path
from shared.device import Device
from shared.errors import ModelUnavailable
from shared.models.gguf import load
from shared.schemas import ModelSource
file = Path(sys.argv[1])
whole = file.read_bytes()
start, end = whole.index(b"token_embd.weight"), whole.index(b"output.weight") + 40
refused = 0
for seed in range(150):
    rng, content = random.Random(seed), bytearray(whole)
    content[rng.randrange(start, end)] ^= 1 << rng.randrange(8)
    file.write_bytes(content)
    try:
        load(ModelSource("ours/text", "main", file), Device("cpu", torch=False))
    except ModelUnavailable as exc:
        assert file.name in exc.message
        refused += 1
print(refused)
"""
    file = write(tmp_path / "ours.gguf")
    done = subprocess.run([sys.executable, "-c", code, str(file)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) > 100
