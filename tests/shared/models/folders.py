"""Checkpoint folders and Hugging Face caches as tests lay them out: real names, a few bytes each."""

import json
import struct
from pathlib import Path

INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "_diffusers_version": "0.42.1",
    "requires_safety_checker": False,
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
}


def safetensors(size: int = 16, filler: bytes = b"w") -> bytes:
    """A file of one tensor of so many bytes, which the safetensors library reads."""
    header = json.dumps({"w": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    return struct.pack("<Q", len(header)) + header + (filler * size)[:size]


FILES: dict[str, bytes] = {
    "model_index.json": json.dumps(INDEX).encode(),
    "scheduler/scheduler_config.json": b"{}",
    "tokenizer/tokenizer_config.json": b"{}",
    "tokenizer/vocab.json": b'{"a": 0}',
    "unet/config.json": b"{}",
    "unet/diffusion_pytorch_model.safetensors": safetensors(8),
}


REMOTE: dict[str, bytes] = {
    **FILES,
    "README.md": b"# Small",
    "small.safetensors": safetensors(64, b"all"),
    "unet/diffusion_pytorch_model.bin": b"a pickle",
    "unet/diffusion_pytorch_model.safetensors": safetensors(),
    "unet/diffusion_pytorch_model.fp16.safetensors": safetensors(256, b"half"),
}  # a repository as the hub has it


def without(name: str) -> dict[str, bytes]:
    """`FILES` but one."""
    return {n: data for n, data in FILES.items() if n != name}


def write_files(folder: Path, files: dict[str, bytes] = FILES) -> Path:
    """The files under the folder, which is returned."""
    for name, data in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    return folder


def write_cached(
    root: Path, model_id: str, commit: str, files: dict[str, bytes] = FILES, *, ref: str | None = None
) -> Path:
    """A snapshot as huggingface_hub keeps it: links into `blobs`, and `refs/<ref>` if asked for."""
    repo = root / ("models--" + model_id.replace("/", "--"))
    snapshot = repo / "snapshots" / commit
    (repo / "blobs").mkdir(parents=True, exist_ok=True)
    for number, (name, data) in enumerate(files.items()):
        blob, link = repo / "blobs" / f"{commit}-{number}", snapshot / name
        blob.write_bytes(data)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(blob)
    if ref:
        (repo / "refs").mkdir(exist_ok=True)
        (repo / "refs" / ref).write_text(commit)
    return snapshot
