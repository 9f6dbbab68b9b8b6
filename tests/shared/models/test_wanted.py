"""Which files of a repository are chosen: one copy of a model's weights, or one GGUF in all its parts."""

import pytest

from shared.errors import ModelUnavailable
from shared.models.wanted import gguf_files, parts_of, wanted_files
from tests.shared.models.stores import PARTS, QUANTISED, TEXT


def weights(folder: str, stem: str) -> list[str]:
    """A model's folder as Stability's repositories have it, every format included."""
    names = ["config.json", f"{stem}.safetensors", f"{stem}.fp16.safetensors", "model.onnx", "openvino_model.bin"]
    return [f"{folder}/{name}" for name in [*names, "model.onnx_data", "openvino_model.xml", "flax_model.msgpack"]]


TOKENIZER = ["merges.txt", "special_tokens_map.json", "tokenizer_config.json", "vocab.json"]
SCHEDULER = ["scheduler/scheduler_config.json"]
UNET, ENCODER = "diffusion_pytorch_model", "model"
SDXL_TURBO = [
    ".gitattributes", "LICENSE.md", "README.md", "model_index.json", "output_tile.jpg",
    "sd_xl_turbo_1.0.safetensors", "sd_xl_turbo_1.0_fp16.safetensors",
    *SCHEDULER, *weights("text_encoder", ENCODER), *weights("text_encoder_2", ENCODER), *weights("unet", UNET),
    *[f"{folder}/{name}" for folder in ("tokenizer", "tokenizer_2") for name in TOKENIZER],
    "vae/config.json", "vae/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.fp16.safetensors",
    "vae_decoder/config.json", "vae_decoder/model.onnx", "vae_encoder/config.json", "vae_encoder/model.onnx",
]  # fmt: skip
SD_1_5 = [
    ".gitattributes", "README.md", "model_index.json", "v1-inference.yaml",
    "v1-5-pruned.ckpt", "v1-5-pruned.safetensors", "v1-5-pruned-emaonly.ckpt", "v1-5-pruned-emaonly.safetensors",
    "feature_extractor/preprocessor_config.json", *SCHEDULER, *[f"tokenizer/{name}" for name in TOKENIZER],
    *[f"{folder}/{stem}{kind}" for folder, stem in
      (("safety_checker", "model"), ("text_encoder", "model"), ("unet", UNET), ("vae", UNET))
      for kind in (".bin", ".fp16.bin", ".safetensors", ".fp16.safetensors")],
    "safety_checker/config.json", "text_encoder/config.json", "unet/config.json", "vae/config.json",
    "unet/diffusion_pytorch_model.non_ema.bin", "unet/diffusion_pytorch_model.non_ema.safetensors",
]  # fmt: skip
PIX2PIX = [
    "model_index.json", "instruct-pix2pix-00-22000.ckpt", "instruct-pix2pix-00-22000.safetensors", *SCHEDULER,
    *[f"tokenizer/{name}" for name in TOKENIZER], "feature_extractor/preprocessor_config.json",
    "safety_checker/config.json", "safety_checker/model.safetensors", "safety_checker/pytorch_model.bin",
    "text_encoder/config.json", "text_encoder/model.safetensors", "text_encoder/pytorch_model.bin",
    "unet/config.json", f"unet/{UNET}.safetensors", f"unet/{UNET}.bin",
    "vae/config.json", f"vae/{UNET}.safetensors", f"vae/{UNET}.bin",
]  # fmt: skip


def test_half_precision_is_preferred_one_copy_of_each_model() -> None:
    chosen = [n for n in wanted_files(SDXL_TURBO) if n.endswith(".safetensors")]
    assert sorted(chosen) == [
        "text_encoder/model.fp16.safetensors",
        "text_encoder_2/model.fp16.safetensors",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "vae/diffusion_pytorch_model.fp16.safetensors",
    ]


def test_full_precision_is_taken_where_there_is_no_half() -> None:
    chosen = [n for n in wanted_files(PIX2PIX) if n.endswith(".safetensors")]
    assert sorted(chosen) == [
        "safety_checker/model.safetensors",
        "text_encoder/model.safetensors",
        f"unet/{UNET}.safetensors",
        f"vae/{UNET}.safetensors",
    ]


def test_full_precision_is_taken_for_the_one_folder_that_has_no_half() -> None:
    names = [n for n in SD_1_5 if n != "vae/diffusion_pytorch_model.fp16.safetensors"]
    chosen = wanted_files(names)
    assert "vae/diffusion_pytorch_model.safetensors" in chosen
    assert "unet/diffusion_pytorch_model.fp16.safetensors" in chosen


def test_all_shards_of_one_precision_are_taken() -> None:
    shards = [f"unet/{UNET}{half}-0000{n}-of-00002.safetensors" for half in ("", ".fp16") for n in (1, 2)]
    assert wanted_files(shards) == [f"unet/{UNET}.fp16-0000{n}-of-00002.safetensors" for n in (1, 2)]


@pytest.mark.parametrize("names", [SDXL_TURBO, SD_1_5, PIX2PIX], ids=["sdxl-turbo", "sd-1.5", "pix2pix"])
def test_every_small_file_that_diffusers_reads_is_taken(names: list[str]) -> None:
    assert {n for n in names if n.endswith((".json", ".txt"))} <= set(wanted_files(names))


@pytest.mark.parametrize("names", [SDXL_TURBO, SD_1_5, PIX2PIX], ids=["sdxl-turbo", "sd-1.5", "pix2pix"])
def test_no_pickle_no_onnx_no_single_file_checkpoint_is_taken(names: list[str]) -> None:
    chosen = wanted_files(names)
    assert len(chosen) == len(set(chosen))
    assert {n.rpartition(".")[2] for n in chosen} == {"json", "txt", "safetensors"}
    assert not [n for n in chosen if "/" not in n and n != "model_index.json"]
    assert not [n for n in chosen if "non_ema" in n]


def test_the_parts_of_a_file_are_known_by_the_name_of_any() -> None:
    assert parts_of("a/small.gguf") == ["a/small.gguf"]
    assert parts_of(PARTS[0]) == parts_of(PARTS[1]) == PARTS
    assert parts_of("best-of-breed.gguf") == ["best-of-breed.gguf"]


@pytest.mark.parametrize(
    ("files", "names", "taken"),
    [
        (["small-q4.gguf"], list(QUANTISED), ["small-q4.gguf"]),
        ([PARTS[0]], list(QUANTISED), PARTS),
        ([], ["README.md", "only.gguf"], ["only.gguf"]),
        ([], ["README.md", *PARTS], PARTS),
        (["q8/model.gguf"], ["q4/model.gguf", "q8/model.gguf"], ["q8/model.gguf"]),
        ([], SDXL_TURBO, []),
        ([], [*SDXL_TURBO, "unet.gguf"], []),
        ([], ["README.md"], []),
    ],
)
def test_one_gguf_file_is_taken_in_all_its_parts(files: list[str], names: list[str], taken: list[str]) -> None:
    assert gguf_files(TEXT, files, names) == taken


@pytest.mark.parametrize(
    ("files", "names", "complaint"),
    [
        (
            [],
            list(QUANTISED),
            "name one in GGML_FILE; it has: small-q4.gguf, small-q8.gguf, big-00001-of-00002.gguf$",
        ),
        (["small-q5.gguf"], list(QUANTISED), "has no small-q5.gguf; it has: small-q4.gguf"),
        (["small.gguf"], ["README.md"], "has no small.gguf; it has: no GGUF file"),
    ],
)
def test_a_choice_that_is_missing_or_not_there_is_refused(files: list[str], names: list[str], complaint: str) -> None:
    with pytest.raises(ModelUnavailable, match=complaint):
        gguf_files(TEXT, files, names)


def test_two_files_are_refused_by_their_number() -> None:
    with pytest.raises(ModelUnavailable, match=r"`files` names 2: small-q4\.gguf, small-q8\.gguf; keep one"):
        gguf_files(TEXT, ["small-q4.gguf", "small-q8.gguf"], list(QUANTISED))


@pytest.mark.parametrize("files", [[], [PARTS[0]]])
def test_a_part_that_the_hub_lacks_is_missed_before_the_others_are_downloaded(files: list[str]) -> None:
    with pytest.raises(ModelUnavailable, match=rf"not whole on the hub: it has no {PARTS[1]}, a part of {PARTS[0]}"):
        gguf_files(TEXT, files, ["README.md", PARTS[0]])
