"""Headers of safetensors files: what a whole one says, and every way in which one can be damaged."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from shared.errors import ModelUnavailable
from shared.models.safetensors_header import check_folder, read_header
from shared.models.store import DEMO_MODELS

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
    tensors = read_header(whole)
    assert {name: (t.dtype, t.shape) for name, t in tensors.items()} == {
        "a": ("F32", (2, 3)),
        "b": ("F16", (4,)),
        "none": ("F32", (0,)),
    }


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.bfloat16, torch.float8_e4m3fn, torch.complex64])
def test_knows_the_length_of_every_kind_of_number(tmp_path: Path, dtype: torch.dtype) -> None:
    file = tmp_path / "a.safetensors"
    save_file({"a": torch.zeros(3, 5, dtype=dtype)}, file)
    assert read_header(file)["a"].shape == (3, 5)


def test_the_demo_models_weights_are_whole() -> None:
    check_folder(DEMO_MODELS / "text-to-image")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.7, 0.999])
def test_a_file_that_was_cut_off_anywhere_is_named(whole: Path, share: float) -> None:
    whole.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * share)])
    with pytest.raises(ModelUnavailable, match=r"unet/model\.safetensors is damaged.*fetch it again"):
        read_header(whole)


def test_a_byte_too_many_is_found(whole: Path) -> None:
    whole.write_bytes(whole.read_bytes() + b"x")
    with pytest.raises(ModelUnavailable, match="33 bytes of weights, and its header lists 32"):
        read_header(whole)


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (b"\x00" * 20, "not a list of tensors"),
        (b"[1, 2, 3]", "not a list of tensors"),
        (b'{"a": 1}', "not a list of tensors"),
        (b"[" * 100_000, "not a list of tensors"),
        (b"\xff\xfe{}", "not a list of tensors"),
        ({"a": {"dtype": "U8", "shape": [8]}}, "not a list of tensors"),
        ({"a": entry(0, 8, (8.0,))}, "not a list of tensors"),
        ({"a": entry(0, 8, (-8,))}, "not a list of tensors"),
        ({"a": entry(-8, 0, (8,))}, "not a list of tensors"),
        ({"a": entry(0, 8, (True,))}, "not a list of tensors"),
        ({"a": entry(0, 8, (8,), "G8")}, "the tensor a is of no known type"),
        ({"a": entry(0, 8, (9,))}, "the tensor a is not as long as its shape"),
        ({"a": entry(0, 8, (2,), "F64")}, "the tensor a is not as long as its shape"),
        ({"a": entry(8, 0, (8,))}, "the tensor a is not as long as its shape"),
        ({"a": entry(0, 4, (4,)), "b": entry(2, 8, (6,))}, "overlap or leave gaps"),
        ({"a": entry(0, 3, (3,)), "b": entry(4, 8, (4,))}, "overlap or leave gaps"),
        ({"a": entry(1, 8, (7,))}, "overlap or leave gaps"),
        ({"a": entry(0, 7, (7,))}, "8 bytes of weights, and its header lists 7"),
        ({"a": entry(0, 9, (9,))}, "8 bytes of weights, and its header lists 9"),
        ({}, "8 bytes of weights, and its header lists 0"),
    ],
)
def test_a_header_that_does_not_fit_its_file_is_refused(whole: Path, header: Any, reason: str) -> None:
    write(whole, header, b"12345678")
    with pytest.raises(ModelUnavailable, match=re.escape(reason)):
        read_header(whole)


def test_a_length_beyond_the_file_is_not_read(whole: Path) -> None:
    whole.write_bytes((2**62).to_bytes(8, "little") + b"{}")
    with pytest.raises(ModelUnavailable, match="its header would have 4,611,686,018,427,387,904"):
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


def test_what_the_library_refuses_is_refused_here(whole: Path) -> None:
    """One bit of the header flipped, anywhere: where the library cannot read the file, it is found before."""
    content = whole.read_bytes()
    missed = []
    for bit in range(8 * (8 + int.from_bytes(content[:8], "little"))):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        whole.write_bytes(flipped)
        if reads(whole, read_header) and not reads(whole, load_file):
            missed.append((bit, bytes(flipped)))
    assert missed == []


def reads(file: Path, reader: Callable[[Path], object]) -> bool:
    try:
        reader(file)
    except Exception:  # noqa: BLE001 whatever the library raises
        return False
    return True
