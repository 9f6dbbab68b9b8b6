"""Puts tiny checkpoints into one file, under the names of the original Stable Diffusion: what trainers publish.

diffusers converts from that form only; this is the way back, for the shapes that tiny.py makes.
"""

import re
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

Weights = dict[str, torch.Tensor]

# From diffusers' name to the original's, applied in turn.
UNET = (
    (r"^time_embedding\.linear_1", "time_embed.0"),
    (r"^time_embedding\.linear_2", "time_embed.2"),
    (r"^add_embedding\.linear_1", "label_emb.0.0"),
    (r"^add_embedding\.linear_2", "label_emb.0.2"),
    (r"^conv_in", "input_blocks.0.0"),
    (r"^conv_norm_out", "out.0"),
    (r"^conv_out", "out.2"),
    (r"^mid_block\.resnets\.0", "middle_block.0"),
    (r"^mid_block\.attentions\.0", "middle_block.1"),
    (r"^mid_block\.resnets\.1", "middle_block.2"),
    (r"^down_blocks\.0\.resnets\.0", "input_blocks.1.0"),
    (r"^down_blocks\.0\.downsamplers\.0\.conv", "input_blocks.2.0.op"),
    (r"^down_blocks\.1\.resnets\.0", "input_blocks.3.0"),
    (r"^down_blocks\.1\.attentions\.0", "input_blocks.3.1"),
    (r"^up_blocks\.0\.resnets\.(\d)", r"output_blocks.\1.0"),
    (r"^up_blocks\.0\.attentions\.(\d)", r"output_blocks.\1.1"),
    (r"^up_blocks\.0\.upsamplers\.0\.conv", "output_blocks.1.2.conv"),
    (r"^up_blocks\.1\.resnets\.0", "output_blocks.2.0"),
    (r"^up_blocks\.1\.resnets\.1", "output_blocks.3.0"),
)
RESNET = (
    ("norm1", "in_layers.0"),
    ("conv1", "in_layers.2"),
    ("norm2", "out_layers.0"),
    ("conv2", "out_layers.3"),
    ("time_emb_proj", "emb_layers.1"),
    ("conv_shortcut", "skip_connection"),
)
VAE = (
    (r"conv_norm_out", "norm_out"),
    (r"mid_block\.attentions\.0\.", "mid.attn_1."),
    (r"mid_block\.resnets\.0", "mid.block_1"),
    (r"mid_block\.resnets\.1", "mid.block_2"),
    (r"down_blocks\.(\d)\.resnets", r"down.\1.block"),
    (r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample"),
    (r"up_blocks\.(\d)\.resnets", lambda m: f"up.{3 - int(m[1])}.block"),
    (r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"up.{3 - int(m[1])}.upsample"),
    (r"conv_shortcut", "nin_shortcut"),
    (r"attn_1\.group_norm", "attn_1.norm"),
    (r"attn_1\.to_([qkv])\.", r"attn_1.\1."),
    (r"attn_1\.to_out\.0", "attn_1.proj_out"),
)
OPEN_CLIP = (
    (r"^text_model\.embeddings\.position_embedding\.weight", "positional_embedding"),
    (r"^text_model\.embeddings\.token_embedding", "token_embedding"),
    (r"^text_model\.final_layer_norm", "ln_final"),
    (r"^text_model\.encoder\.layers", "transformer.resblocks"),
    (r"layer_norm(\d)", r"ln_\1"),
    (r"mlp\.fc1", "mlp.c_fc"),
    (r"mlp\.fc2", "mlp.c_proj"),
    (r"self_attn", "attn"),
)


def one_file(folder: Path, file: Path) -> Path:
    """Write the weights of a checkpoint in parts into one file; XL where it has a second text encoder."""
    weights = {f"model.diffusion_model.{name}": t for name, t in _unet(_part(folder / "unet")).items()}
    weights |= {f"first_stage_model.{name}": t for name, t in _vae(_part(folder / "vae")).items()}
    first = _wrapped(_part(folder / "text_encoder"))
    if not (folder / "text_encoder_2").is_dir():
        weights |= {f"cond_stage_model.transformer.{name}": t for name, t in first.items()}
    else:
        second = _open_clip(_wrapped(_part(folder / "text_encoder_2")))
        weights |= {f"conditioner.embedders.0.transformer.{name}": t for name, t in first.items()}
        weights |= {f"conditioner.embedders.1.model.{name}": t for name, t in second.items()}
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, file, {"format": "pt"})
    return file


def open_clip_file(folder: Path, file: Path) -> Path:
    """As `one_file`, with the text encoder as Stable Diffusion 2 has it."""
    weights = load_file(one_file(folder, file))
    encoder = _open_clip(_wrapped(_part(folder / "text_encoder")))
    rest = {name: t for name, t in weights.items() if not name.startswith("cond_stage_model.")}
    save_file({**rest, **{f"cond_stage_model.model.{n}": t.contiguous() for n, t in encoder.items()}}, file)
    return file


def _part(folder: Path) -> Weights:
    (file,) = folder.glob("*.safetensors")
    return load_file(file)


def _renamed(name: str, rules: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...]) -> str:
    for old, new in rules:
        name = re.sub(old, new, name)
    return name


def _unet(weights: Weights) -> Weights:
    renamed = {}
    for name, tensor in weights.items():
        original = _renamed(name, UNET)
        if "resnets" in name:
            for old, new in RESNET:
                original = original.replace(old, new)
        renamed[original] = tensor
    return renamed


def _vae(weights: Weights) -> Weights:
    renamed = {_renamed(name, VAE): tensor for name, tensor in weights.items()}
    is_convolution = re.compile(r"attn_1\.(q|k|v|proj_out)\.weight")
    return {n: t[:, :, None, None] if is_convolution.search(n) else t for n, t in renamed.items()}


def _wrapped(encoder: Weights) -> Weights:
    """Under `text_model.`, which transformers leaves out since 5.6 for the plain encoder."""
    own = ("text_model.", "text_projection.")
    return {name if name.startswith(own) else f"text_model.{name}": tensor for name, tensor in encoder.items()}


def _open_clip(encoder: Weights) -> Weights:
    """Queries, keys and values of a layer in one matrix, and the projection transposed."""
    weights = {}
    for name, tensor in encoder.items():
        original = _renamed(name, OPEN_CLIP)
        if name == "text_projection.weight":
            weights["text_projection"] = tensor.T
        elif ".q_proj." in original:
            each = [encoder[name.replace("q_proj", part)] for part in ("q_proj", "k_proj", "v_proj")]
            weights[re.sub(r"q_proj\.(weight|bias)", r"in_proj_\1", original)] = torch.cat(each)
        elif ".k_proj." not in original and ".v_proj." not in original:
            weights[original] = tensor
    return weights
