"""GGUF files with random weights, of a few hundred kilobytes: what llama.cpp loads, and what it must not be given."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np

TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
WIDTH, HEADS, FEED, LAYERS = 32, 2, 64, 2
SPECIAL = ("<unk>", "<s>", "</s>")
PRINTABLE = range(0x20, 0x7F)
BYTE_TOKENS = len(SPECIAL)
FIRST_LETTER = BYTE_TOKENS + 256
VOCABULARY = FIRST_LETTER + len(PRINTABLE)


def write(
    path: Path,
    *,
    template: str | None = TEMPLATE,
    pooling: gguf.PoolingType | None = None,
    context: int = 512,
    says: str = "",
    tensors_per_part: int = 0,
    metadata: dict[str, int] | None = None,
) -> Path:
    """A llama whose every token is a byte or a printable character; returns the path.

    With `says` it answers that text, whatever it is asked, and ends; else random characters without end. With
    `tensors_per_part` the model is in parts, named as llama.cpp names them, and the first part's path is returned.
    `metadata` sets further values, which may be wrong.
    """
    rng = np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, "llama", split_max_tensors=tensors_per_part)
    _describe(writer, context)
    if template is not None:
        writer.add_chat_template(template)
    if pooling is not None:
        writer.add_pooling_type(pooling)
    for name, value in (metadata or {}).items():
        writer.add_uint32(name, value)
    for name, values in (_parrot(says) if says else _random(rng)).items():
        writer.add_tensor(name, values.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path if path.exists() else sorted(path.parent.glob(f"{path.stem}-00001-of-*.gguf"))[0]


def _describe(writer: gguf.GGUFWriter, context: int) -> None:
    writer.add_context_length(context)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FEED)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(VOCABULARY)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    letters = ["\u2581" if c == 0x20 else chr(c) for c in PRINTABLE]
    writer.add_token_list([*SPECIAL, *(f"<0x{b:02X}>" for b in range(256)), *letters])
    writer.add_token_scores([0.0] * FIRST_LETTER + [-float(c) for c in PRINTABLE])
    kinds = gguf.TokenType
    writer.add_token_types(
        [kinds.UNKNOWN, kinds.CONTROL, kinds.CONTROL, *[kinds.BYTE] * 256, *[kinds.NORMAL] * len(PRINTABLE)]
    )
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(False)


def _random(rng: np.random.Generator) -> dict[str, Any]:
    """Weights under which any printable character may follow any other."""
    head = rng.standard_normal((VOCABULARY, WIDTH)) * 3 * WIDTH**-0.5
    head[:FIRST_LETTER] = 0
    return {
        "token_embd.weight": rng.standard_normal((VOCABULARY, WIDTH)),
        **_layers(lambda *shape: rng.standard_normal(shape) * shape[-1] ** -0.5),
        "output_norm.weight": np.ones(WIDTH),
        "output.weight": head,
    }


def _parrot(says: str) -> dict[str, Any]:
    """Weights of a chain: each token of the text is followed by the next one, the last by the end."""
    chain = [*(FIRST_LETTER + PRINTABLE.index(b) if b in PRINTABLE else BYTE_TOKENS + b for b in says.encode()), 2]
    assert len(set(chain)) == len(chain) <= WIDTH, "a byte that comes twice would not know what follows it"
    place = np.eye(WIDTH)
    embedding, head = np.tile(place[0], (VOCABULARY, 1)), np.zeros((VOCABULARY, WIDTH))
    for n, token in enumerate(chain):
        head[token] = 10 * place[n]
        embedding[token] = place[(n + 1) % WIDTH]
    return {
        "token_embd.weight": embedding,
        **_layers(lambda *shape: np.zeros(shape)),
        "output_norm.weight": np.ones(WIDTH),
        "output.weight": head,
    }


def _layers(weights: Callable[..., Any]) -> dict[str, Any]:
    tensors: dict[str, Any] = {}
    for n in range(LAYERS):
        tensors |= {
            f"blk.{n}.attn_norm.weight": np.ones(WIDTH),
            **{f"blk.{n}.attn_{part}.weight": weights(WIDTH, WIDTH) for part in ("q", "k", "v", "output")},
            f"blk.{n}.ffn_norm.weight": np.ones(WIDTH),
            **{f"blk.{n}.ffn_{part}.weight": weights(FEED, WIDTH) for part in ("gate", "up")},
            f"blk.{n}.ffn_down.weight": weights(WIDTH, FEED),
        }
    return tensors


def string(text: str | bytes) -> bytes:
    """A string as a header has it."""
    data = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(data)) + data


def pair(key: str, kind: int, value: bytes) -> bytes:
    """A key with a value of a kind, already packed."""
    return string(key) + struct.pack("<I", kind) + value


def tensor(name: str, dimensions: tuple[int, ...], kind: int = 0, offset: int = 0) -> bytes:
    """A tensor as a header lists it; by default of 32-bit floats."""
    return string(name) + struct.pack(f"<I{len(dimensions)}QIQ", len(dimensions), *dimensions, kind, offset)


ARCHITECTURE = pair("general.architecture", 8, string("llama"))


def header(
    *pairs: bytes, tensors: tuple[bytes, ...] = (), version: int = 3, counts: tuple[int, int] | None = None
) -> bytes:
    """The bytes of a file that is a header only; `counts` are what it says it holds, if not what it does."""
    said = counts or (len(tensors), len(pairs))
    return b"GGUF" + struct.pack("<IQQ", version, *said) + b"".join(pairs) + b"".join(tensors)
