"""Which family a checkpoint is of, and what each family takes; the published sizes, without any weights."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
import transformers
from pydantic import TypeAdapter

from handlers.image_to_video import ImageToVideoParams
from shared.errors import InvalidInput, ModelUnavailable
from shared.models.catalog import BUILT_IN, Entry, read
from shared.models.video_families import BY_MOTION, BY_PROMPT, FAMILIES, family_of
from shared.schemas import ModelSource

PAGE = Path(__file__).parents[3] / "docs" / "image-to-video.md"
models: Any = diffusers  # it is not typed
encoders: Any = transformers
UMT5 = {"vocab_size": 256_384, "d_model": 4096, "d_kv": 64, "d_ff": 10_240, "num_layers": 24, "num_heads": 64}
T5 = {**UMT5, "vocab_size": 32_128, "feed_forward_proj": "gated-gelu"}
WAN_5B = {"in_channels": 48, "out_channels": 48, "num_attention_heads": 24, "ffn_dim": 14_336, "num_layers": 30}


def checkpoint(folder: Path, **index: Any) -> ModelSource:
    (folder / "model_index.json").write_text(json.dumps(index))
    return ModelSource("ours/tiny", "main", folder)


@pytest.mark.parametrize("class_name", FAMILIES)
def test_a_checkpoint_is_known_by_the_class_in_its_index(class_name: str, tmp_path: Path) -> None:
    family = family_of(checkpoint(tmp_path, _class_name=class_name, expand_timesteps=True))
    assert family is FAMILIES[class_name]
    assert hasattr(models, class_name)
    assert hasattr(models, family.pipeline)


def test_another_pipelines_checkpoint_is_refused_with_the_classes_there_are(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match=r"'ours/tiny' is a FluxPipeline; what animates .* LTXPipeline"):
        family_of(checkpoint(tmp_path, _class_name="FluxPipeline"))


@pytest.mark.parametrize("index", [{}, {"expand_timesteps": False}], ids=str)
def test_a_wan_that_draws_from_text_alone_is_refused(index: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="'ours/tiny' draws from text alone"):
        family_of(checkpoint(tmp_path, _class_name="WanPipeline", **index))


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_what_a_family_takes_are_parameters_and_the_others_are_foreign(family: Any) -> None:
    assert set(family.takes) < set(ImageToVideoParams.model_fields)
    assert {*family.takes, *family.foreign} == {*BY_MOTION, *BY_PROMPT}
    assert not set(family.takes) & set(family.foreign)


@pytest.mark.parametrize(
    ("class_name", "given", "complaint"),
    [
        (
            "LTXPipeline",
            {"motion_bucket_id"},
            "'a/b' does not take motion_bucket_id; it takes prompt, negative_prompt",
        ),
        ("WanPipeline", {"decode_chunk_size", "prompt"}, "does not take decode_chunk_size; "),
        (
            "StableVideoDiffusionPipeline",
            {"prompt", "guidance_scale"},
            "not take prompt, guidance_scale; it takes motion",
        ),
    ],
)
def test_what_a_job_gives_and_a_family_does_not_take_is_named(
    class_name: str, given: set[str], complaint: str
) -> None:
    with pytest.raises(InvalidInput, match=complaint):
        FAMILIES[class_name].check("a/b", given, None, 25)


def test_a_family_has_its_own_longest_video() -> None:
    family = FAMILIES["StableVideoDiffusionPipeline"]
    family.check("a/b", {"fps", *BY_MOTION}, 50, 1)
    with pytest.raises(InvalidInput, match="num_frames is 51; 'a/b' draws at most 50"):
        family.check("a/b", set(), 51, 25)


def test_ltx_takes_two_steps_at_least() -> None:
    FAMILIES["LTXPipeline"].check("a/b", set(), None, 2)
    with pytest.raises(InvalidInput, match="num_inference_steps is 1; 'a/b' takes at least 2"):
        FAMILIES["LTXPipeline"].check("a/b", set(), None, 1)


@pytest.mark.parametrize(
    ("model_id", "parts", "gigabytes"),
    [
        (
            "Lightricks/LTX-Video",
            {
                2: [
                    lambda: models.LTXVideoTransformer3DModel(),
                    lambda: models.AutoencoderKLLTXVideo(),
                    lambda: encoders.T5EncoderModel(encoders.T5Config(**T5)),
                ]
            },
            14.2,
        ),
        (
            "Wan-AI/Wan2.1-I2V-14B-480P-Diffusers",
            {
                2: [
                    lambda: models.WanTransformer3DModel(in_channels=36, image_dim=1280, added_kv_proj_dim=5120),
                    lambda: encoders.UMT5EncoderModel(encoders.UMT5Config(**UMT5)),
                ],
                4: [lambda: models.AutoencoderKLWan()],
            },
            44.7,
        ),
        (
            "Wan-AI/Wan2.2-TI2V-5B-Diffusers",
            {
                2: [
                    lambda: models.WanTransformer3DModel(**WAN_5B),
                    lambda: encoders.UMT5EncoderModel(encoders.UMT5Config(**UMT5)),
                ]
            },
            21.4,
        ),
    ],
)
def test_the_listed_memory_holds_the_published_networks(
    model_id: str, parts: dict[int, list[Callable[[], Any]]], gigabytes: float
) -> None:
    """By the bytes of a number; what a run takes besides is an estimate."""
    with torch.device("meta"):
        weights = sum(
            size * sum(parameter.numel() for parameter in make().parameters())
            for size, makes in parts.items()
            for make in makes
        )
    assert weights / 1e9 == pytest.approx(gigabytes, rel=5e-3)
    (listed,) = [entry for entry in (*read(BUILT_IN), *of_the_page()) if entry.model_id == model_id]
    assert listed.gpu_memory_gb is not None
    assert gigabytes * 1.2 < listed.gpu_memory_gb < gigabytes * 2


def of_the_page() -> list[Entry]:
    """The entries that the page gives for a models.json of one's own."""
    (block,) = re.findall(r"```json\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return TypeAdapter(list[Entry]).validate_json(block)
