"""Headers of safetensors files: what a whole one says, and every way in which one can be damaged."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from shared.errors import ModelUnavailable
from shared.models.safetensors_header import check_folder, read_header
from shared.models.store import DEMO_MODELS

ROOT = Path(__file__).parents[3]
WEIGHTS = {"a": torch.ones(2, 3), "b": torch.zeros(4, dtype=torch.float16), "none": torch.zeros(0)}


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    file = tmp_path / "unet" / "model.safetensors"
    file.parent.mkdir()
    save_file(WEIGHTS, file, {"format": "pt"})
    return file


def write(file: Path, header: Any, data: bytes) -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + data)


def entry(begin: int, end: int, shape: tuple[Any, ...] = (), dtype: str = "U8") -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def test_lists_the_tensors_of_a_whole_file(whole: Path) -> None:
    assert read_header(whole) == {"a": (2, 3), "b": (4,), "none": (0,)}


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.bfloat16, torch.float8_e4m3fn, torch.complex64])
def test_reads_every_kind_of_number(tmp_path: Path, dtype: torch.dtype) -> None:
    file = tmp_path / "a.safetensors"
    save_file({"a": torch.zeros(3, 5, dtype=dtype)}, file)
    assert read_header(file) == {"a": (3, 5)}


def test_the_demo_models_weights_are_whole() -> None:
    check_folder(DEMO_MODELS / "text-to-image")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.7, 0.999])
def test_a_file_that_was_cut_off_anywhere_is_named(whole: Path, share: float) -> None:
    whole.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * share)])
    with pytest.raises(ModelUnavailable, match=r"unet/model\.safetensors is damaged.*fetch it again"):
        read_header(whole)


def test_a_byte_too_many_is_found(whole: Path) -> None:
    whole.write_bytes(whole.read_bytes() + b"x")
    with pytest.raises(ModelUnavailable, match=r"damaged: .*not fully covered"):
        read_header(whole)


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (b"\x00" * 20, "invalid JSON"),
        (b"[1, 2, 3]", "invalid JSON"),
        (b'{"a": 1}', "invalid JSON"),
        (b"[" * 100_000, "invalid JSON"),
        (b"\xff\xfe{}", "invalid UTF-8"),
        ({"a": {"dtype": "U8", "shape": [8]}}, "invalid JSON"),
        ({"a": entry(0, 8, (-8,))}, "invalid JSON"),
        ({"a": entry(-8, 0, (8,))}, "invalid JSON"),
        ({"a": entry(0, 8, (8,), "G8")}, "invalid JSON"),
        ({"a": entry(0, 8, (9,))}, "invalid shape"),
        ({"a": entry(0, 8, (2,), "F64")}, "invalid shape"),
        ({"a": entry(8, 0, (8,))}, "invalid offset"),
        ({"a": entry(0, 4, (4,)), "b": entry(2, 8, (6,))}, "invalid offset"),
        ({"a": entry(0, 3, (3,)), "b": entry(4, 8, (4,))}, "invalid offset"),
        ({"a": entry(1, 8, (7,))}, "invalid offset"),
        ({"a": entry(0, 7, (7,))}, "not fully covered"),
        ({"a": entry(0, 9, (9,))}, "not fully covered"),
        ({}, "not fully covered"),
        ({"n" * 5000: entry(1, 8, (7,))}, "invalid offset"),
    ],
)
def test_a_header_that_does_not_fit_its_file_is_refused(whole: Path, header: Any, reason: str) -> None:
    write(whole, header, b"12345678")
    with pytest.raises(
        ModelUnavailable, match=rf"unet/model\.safetensors is damaged: .*{reason}.*; fetch it again$"
    ) as caught:
        read_header(whole)
    assert len(caught.value.message) < 300


def test_a_length_beyond_the_file_is_not_read(whole: Path) -> None:
    whole.write_bytes((2**62).to_bytes(8, "little") + b"{}")
    with pytest.raises(ModelUnavailable, match="header too large"):
        read_header(whole)


def test_a_missing_file_is_named_without_its_place(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match=r"unet/a\.safetensors cannot be read: No such file") as caught:
        read_header(tmp_path / "unet" / "a.safetensors")
    assert str(tmp_path) not in caught.value.message


def test_every_weights_file_of_a_folder_is_checked(whole: Path) -> None:
    other = whole.parents[1] / "vae" / "model.safetensors"
    other.parent.mkdir()
    save_file(WEIGHTS, other)
    check_folder(whole.parents[1])
    other.write_bytes(other.read_bytes()[:-1])
    with pytest.raises(ModelUnavailable, match=r"vae/model\.safetensors is damaged"):
        check_folder(whole.parents[1])


def test_a_header_is_read_without_torch(whole: Path) -> None:
    code = "import sys; from pathlib import Path; from shared.models.safetensors_header import read_header; "
    code += "print(len(read_header(Path(sys.argv[1]))), 'torch' in sys.modules)"
    ran = subprocess.run(
        [sys.executable, "-c", code, str(whole)], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert ran.stdout.split() == ["3", "False"]
