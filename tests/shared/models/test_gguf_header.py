"""GGUF headers: read whole, or refused in words that name the file, whatever the bytes are."""

import random
import re
import struct
from pathlib import Path
from typing import Any

import pytest

from shared.errors import ModelUnavailable
from shared.models.gguf_header import BEFORE_GGUF, LONGEST_KEPT, Header, read_header
from shared.models.store import DEMO_MODELS
from tests.shared.models import tiny_gguf
from tests.shared.models.tiny_gguf import ARCHITECTURE, header, pair, string, tensor

DEMO = DEMO_MODELS / "text-generation" / "model.gguf"
HUGE = 2**60
FLIPS = 3000


def number(key: str, value: int) -> bytes:
    return pair(key, 4, struct.pack("<I", value))


def real(key: str, value: float) -> bytes:
    return pair(key, 6, struct.pack("<f", value))


def array(key: str, kind: int, count: int, values: bytes) -> bytes:
    return pair(key, 9, struct.pack("<IQ", kind, count) + values)


def write(folder: Path, content: bytes) -> Path:
    file = folder / "ours.gguf"
    file.write_bytes(content)
    return file


def complaint(file: Path) -> str:
    """Why the file is refused; the reason names it, and not where it is."""
    with pytest.raises(ModelUnavailable) as caught:
        read_header(file)
    assert file.name in caught.value.message
    assert str(file.parent) not in caught.value.message
    return caught.value.message


def test_reads_what_the_library_of_the_format_writes(tmp_path: Path) -> None:
    read = read_header(tiny_gguf.write(tmp_path / "tiny.gguf", context=777))
    assert read.values["general.architecture"] == "llama"
    assert read.of_model("context_length") == 777
    assert read.of_model("attention.layer_norm_rms_epsilon") == pytest.approx(1e-5)
    assert read.values["tokenizer.ggml.add_bos_token"] is True
    assert read.values["tokenizer.chat_template"] == tiny_gguf.TEMPLATE
    assert (read.of_model("no_such_value"), read.of_model("no_such_value", 5)) == (None, 5)


def test_reads_the_demo_model() -> None:
    assert read_header(DEMO).values["general.architecture"] == "llama"


def test_of_an_array_the_first_values_and_the_length_are_kept(tmp_path: Path) -> None:
    read = read_header(tiny_gguf.write(tmp_path / "tiny.gguf"))
    tokens = read.values["tokenizer.ggml.tokens"]
    assert tokens[:4] == ["<unk>", "<s>", "</s>", "<0x00>"]
    assert len(tokens) == len(read.values["tokenizer.ggml.scores"]) == LONGEST_KEPT
    assert read.lengths["tokenizer.ggml.tokens"] == tiny_gguf.VOCABULARY


@pytest.mark.parametrize(
    ("kind", "code", "value"),
    [
        *[(0, "<B", 200), (1, "<b", -3), (2, "<H", 60000), (3, "<h", -5), (4, "<I", 2**32 - 1), (5, "<i", -7)],
        *[(6, "<f", 0.5), (7, "<?", True), (10, "<Q", 2**63), (11, "<q", -(2**62)), (12, "<d", 0.1)],
    ],
)
def test_reads_numbers_of_every_kind(tmp_path: Path, kind: int, code: str, value: Any) -> None:
    packed = struct.pack(code, value)
    read = read_header(
        write(tmp_path, header(ARCHITECTURE, pair("one", kind, packed), array("two", kind, 2, 2 * packed)))
    )
    assert (read.values["one"], read.values["two"]) == (value, [value, value])


@pytest.mark.parametrize(("heads", "expected"), [(None, 64), (2, 32), ([1, 2, 4], 64), ([], 0)])
def test_the_context_takes_two_tensors_a_layer_of_the_heads_that_are_kept(heads: Any, expected: int) -> None:
    values = {"block_count": 2, "embedding_length": 16, "attention.head_count": 4, "attention.head_count_kv": heads}
    known = {f"llama.{name}": value for name, value in values.items() if value is not None}
    assert Header({"general.architecture": "llama", **known}, {}).kv_bytes(10) == 10 * 2 * expected


@pytest.mark.parametrize("wrong", ["text", [], ["a"], None, -5, 1.5, [1.5]], ids=repr)
@pytest.mark.parametrize(
    "name",
    [
        *("block_count", "embedding_length", "attention.head_count", "attention.head_count_kv"),
        *("attention.key_length", "attention.value_length"),
    ],
)
def test_what_is_no_number_tells_nothing_of_the_context(name: str, wrong: Any) -> None:
    values = {"block_count": 2, "embedding_length": 16, "attention.head_count": 4, name: wrong}
    read = Header({"general.architecture": "a", **{f"a.{n}": v for n, v in values.items()}}, {})
    assert isinstance(read.kv_bytes(10), int)
    assert read.kv_bytes(10) >= 0


@pytest.mark.parametrize("magic", BEFORE_GGUF)
def test_a_file_from_before_gguf_says_how_to_get_one(tmp_path: Path, magic: bytes) -> None:
    said = complaint(write(tmp_path, magic + bytes(1000)))
    assert "name a .gguf file of the model, or convert this one" in said


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "does not start with the letters GGUF"),
        (b"PK\x03\x04" + bytes(100), "does not start with the letters GGUF"),
        (b"GGU", "does not start with the letters GGUF"),
        (b"<!DOCTYPE html><title>404", "does not start with the letters GGUF"),
        (b"version https://git-lfs.github.com/spec/v1", "does not start with the letters GGUF"),
        (b"GGUF", "truncated"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 1), "big-endian"),
        (header(version=1), "GGUF version 1 is unknown"),
        (header(version=99), "GGUF version 99 is unknown"),
        (header(), "names no architecture"),
        (header(number("general.architecture", 5)), "names no architecture"),
        (header(ARCHITECTURE, counts=(HUGE, 1)), f"announces {HUGE} tensors"),
        (header(ARCHITECTURE, counts=(2**63, 1)), f"announces {2**63} tensors"),
        (header(ARCHITECTURE, counts=(0, HUGE)), f"announces {HUGE} metadata pairs"),
        (header(struct.pack("<Q", HUGE) + bytes(50)), f"announces {HUGE} bytes"),
        (header(array("a", 8, HUGE, b"")), f"announces {HUGE} strings"),
        (header(array("a", 0, HUGE, b"")), f"announces {HUGE} values"),
        (header(array("a", 8, 1, struct.pack("<Q", HUGE))), f"announces {HUGE} bytes"),
        (header(array("tokenizer.ggml.tokens", 8, 2, 2 * string("a"))), "token 1 is another one's twin"),
        (header(array("tokenizer.ggml.tokens", 8, 2, string("a") + string("a\0b"))), "token 1 is another one's twin"),
        (header(array("tokenizer.ggml.tokens", 8, 2, 2 * string(""))), "names no architecture"),
        (header(array("tokenizer.ggml.merges", 8, 2, 2 * string("a"))), "names no architecture"),
        (header(array("a", 9, 1, bytes(50))), "an array of the unknown kind 9"),
        (header(array("a", 77, 1, bytes(50))), "an array of the unknown kind 77"),
        (header(pair("a", 13, bytes(50))), "a value of the unknown kind 13"),
        (header(ARCHITECTURE, tensors=(tensor("a", ()),)), "a tensor of 0 dimensions"),
        (header(ARCHITECTURE, tensors=(tensor("a", (1,) * 5),)), "a tensor of 5 dimensions"),
        (header(ARCHITECTURE, tensors=(string("a") + struct.pack("<I", 2**31) + bytes(90),)), "dimensions"),
        (header(ARCHITECTURE, tensors=(tensor("a", (1,), kind=9),)), "a tensor of the kind 9"),
        (header(ARCHITECTURE, tensors=(tensor("output.weight", (1,), kind=26),)), "a tensor of the kind 26"),
        (header(ARCHITECTURE, tensors=(tensor("a.ffn_gate_tid2eid.weight", (1,), kind=26),)), "truncated"),
        (header(ARCHITECTURE, tensors=(tensor("a", (1,)),)), "truncated"),
        (header(ARCHITECTURE, tensors=(tensor("a", (1,), offset=HUGE),)) + bytes(100), "truncated"),
        *[(header(ARCHITECTURE, number("general.alignment", n)), f"an alignment of {n}") for n in (0, 3, 33)],
        (header(ARCHITECTURE, pair("general.alignment", 5, struct.pack("<i", -32))), "an alignment of -32"),
        (header(ARCHITECTURE, pair("general.alignment", 8, string("32"))), "an alignment of 32"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_a_damaged_header_is_refused_saying_what_is_wrong(tmp_path: Path, content: bytes, expected: str) -> None:
    assert expected in complaint(write(tmp_path, content))


@pytest.mark.parametrize(
    "wrong",
    [
        *[number("llama.context_length", n) for n in (0, 15, 2**31)],
        *[number("llama.block_count", n) for n in (0, 513, 2**32 - 1)],
        *[real("llama.attention.layer_norm_rms_epsilon", x) for x in (-1, float("nan"), float("inf"))],
        pair("llama.block_count", 8, string("two")),
    ],
)
def test_a_value_at_which_llama_cpp_would_end_the_process_is_refused(tmp_path: Path, wrong: bytes) -> None:
    assert re.search("and must be a number from", complaint(write(tmp_path, header(ARCHITECTURE, wrong))))


def test_a_file_that_ends_anywhere_before_its_last_tensor_is_refused(tmp_path: Path) -> None:
    whole = header(
        ARCHITECTURE,
        number("llama.context_length", 64),
        array("tokens", 8, 2, string("a") + string("b")),
        tensors=(tensor("a", (2, 2)), tensor("b", (2,), offset=32)),
    )
    data = -(-len(whole) // 32) * 32
    whole = whole.ljust(data, b"\0") + bytes(32 + 8)
    for length in range(data + 32 + 1):
        complaint(write(tmp_path, whole[:length]))
    assert read_header(write(tmp_path, whole)).of_model("context_length") == 64


def test_any_bytes_are_a_header_or_refused(tmp_path: Path) -> None:
    """Flipped bytes, seeded: no other error, and nothing that would take long or fill the memory."""
    file, refused = tiny_gguf.write(tmp_path / "tiny.gguf"), 0
    whole = file.read_bytes()[:9_600]  # up to the last tensors' names
    with file.open("r+b", buffering=0) as bytes_of:
        for seed in range(FLIPS):
            rng, content = random.Random(seed), bytearray(whole)
            for _ in range(rng.choice((1, 1, 2, 8))):
                content[rng.randrange(len(whole))] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
            bytes_of.seek(0)
            bytes_of.write(content)
            try:
                assert read_header(file).kv_bytes(100) >= 0
            except ModelUnavailable as exc:
                assert file.name in exc.message
                refused += 1
    assert FLIPS / 10 < refused < FLIPS


def test_a_file_that_is_missing_or_a_folder_is_refused(tmp_path: Path) -> None:
    assert "cannot be read: No such file" in complaint(tmp_path / "none.gguf")
    (tmp_path / "folder.gguf").mkdir()
    assert "cannot be read: Is a directory" in complaint(tmp_path / "folder.gguf")


def test_a_later_part_needs_no_architecture(tmp_path: Path) -> None:
    part = write(tmp_path, header(pair("split.no", 2, struct.pack("<H", 1))))
    assert read_header(part, first=False).values == {"split.no": 1}
    assert "names no architecture" in complaint(part)
