"""A trained network and its tokenizer as a GGUF file, with the matrices in 8 bits."""

import json
from pathlib import Path

import gguf
import numpy as np
import torch
from tokenizers import Tokenizer

from templates.demo_models.train.byte_pairs import PRE_TOKENIZER
from templates.demo_models.train.conversations import CHAT_TEMPLATE, END
from templates.demo_models.train.llama import Llama, Shape

NAMES = {
    "embedding": "token_embd",
    "norm": "output_norm",
    "attention_norm": "attn_norm",
    "attention.q": "attn_q",
    "attention.k": "attn_k",
    "attention.v": "attn_v",
    "attention.output": "attn_output",
    "feed_forward_norm": "ffn_norm",
    "feed_forward.gate": "ffn_gate",
    "feed_forward.up": "ffn_up",
    "feed_forward.down": "ffn_down",
}


def write_gguf(network: Llama, tokenizer: Tokenizer, path: Path) -> None:
    """Writes the file beside its place and moves it there, so that readers see a whole one."""
    unfinished = path.with_suffix(".part")
    writer = gguf.GGUFWriter(unfinished, "llama")
    _describe(writer, network.shape)
    _add_tokenizer(writer, tokenizer)
    for name, weight in network.state_dict().items():
        _add_tensor(writer, _gguf_name(name), weight.detach().cpu().float().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    unfinished.replace(path)


def read_weights(network: Llama, path: Path) -> None:
    """Gives the network the weights of a file of the same shape, as exact as its 8 bits are."""
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    state = network.state_dict()
    for name, weight in state.items():
        tensor = tensors[_gguf_name(name)]
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        weight.copy_(torch.from_numpy(values.copy()).view_as(weight))


def _describe(writer: gguf.GGUFWriter, shape: Shape) -> None:
    writer.add_name("Pilotlight demo text-generation")
    writer.add_license("MIT")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_vocab_size(shape.vocabulary)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_dimension_count(shape.head_width)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_layer_norm_rms_eps(shape.norm_epsilon)


def _add_tokenizer(writer: gguf.GGUFWriter, tokenizer: Tokenizer) -> None:
    markers = {number for number, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    numbers = range(tokenizer.get_vocab_size())
    control, normal = int(gguf.TokenType.CONTROL), int(gguf.TokenType.NORMAL)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(PRE_TOKENIZER)
    writer.add_token_list([str(tokenizer.id_to_token(number)) for number in numbers])
    writer.add_token_types([control if number in markers else normal for number in numbers])
    writer.add_token_merges([" ".join(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]])
    (end,) = tokenizer.encode(END).ids
    writer.add_eos_token_id(end)
    writer.add_eot_token_id(end)
    writer.add_pad_token_id(end)
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)


def _add_tensor(writer: gguf.GGUFWriter, name: str, weight: np.ndarray) -> None:
    if weight.ndim == 1:
        writer.add_tensor(name, weight)
        return
    kind = gguf.GGMLQuantizationType.Q8_0
    writer.add_tensor(name, gguf.quants.quantize(weight, kind), raw_dtype=kind)


def _gguf_name(name: str) -> str:
    """`blocks.3.attention.q.weight` is `blk.3.attn_q.weight`."""
    module = name.removesuffix(".weight")
    if not module.startswith("blocks."):
        return f"{NAMES[module]}.weight"
    _, number, part = module.split(".", 2)
    return f"blk.{number}.{NAMES[part]}.weight"
