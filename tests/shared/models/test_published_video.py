"""Stable Video Diffusion in its published size, with random weights: 4.7 GB on disk, 12 GB in memory."""

import shutil
from pathlib import Path
from typing import Any

import diffusers
import psutil
import pytest
import torch
import transformers
from PIL import Image

from handlers.image_to_video import ImageToVideoParams, handler, load
from shared.device import Device
from shared.schemas import ModelSource
from tests.shared.models import tiny_video
from tests.shared.models.recorder import Recorder

models: Any = diffusers  # it is not typed
encoders: Any = transformers
NEEDED = 14 * 2**30  # bytes


def networks() -> dict[str, Any]:
    """As the configurations of stable-video-diffusion-img2vid-xt say, without memory."""
    eyes = encoders.CLIPVisionConfig(
        hidden_size=1280,
        intermediate_size=5120,
        projection_dim=1024,
        num_hidden_layers=32,
        num_attention_heads=16,
        hidden_act="gelu",
        patch_size=14,
    )
    return {
        "unet": models.UNetSpatioTemporalConditionModel(),
        "vae": models.AutoencoderKLTemporalDecoder(
            down_block_types=("DownEncoderBlock2D",) * 4,
            block_out_channels=(128, 256, 512, 512),
            layers_per_block=2,
            sample_size=768,
        ),
        "image_encoder": encoders.CLIPVisionModelWithProjection(eyes),
    }


@torch.no_grad()
def filled(network: Any) -> Any:
    """In half precision, every weight drawn; norms begin as they do before training."""
    network = network.half().to_empty(device="cpu")
    for name, weight in (*network.named_parameters(), *network.named_buffers()):
        if weight.is_floating_point():
            weight.fill_(1.0) if "norm" in name and name.endswith("weight") else weight.normal_(0, 0.01)
    if hasattr(network, "vision_model"):
        ids = network.vision_model.embeddings.position_ids
        ids.copy_(torch.arange(ids.shape[-1]).expand_as(ids))
    return network


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif(psutil.virtual_memory().available < NEEDED, reason="14 GB of free memory are needed")
def test_the_published_size_is_loaded_and_draws(tmp_path: Path) -> None:
    with torch.device("meta"):
        parts = networks()
    pipeline = models.StableVideoDiffusionPipeline(
        **{name: filled(network) for name, network in parts.items()},
        scheduler=tiny_video.scheduler(),
        feature_extractor=encoders.CLIPImageProcessor(),
    )
    pipeline.save_pretrained(tmp_path / "svd")
    del pipeline, parts
    model = load(ModelSource("ours/published", "main", tmp_path / "svd"), Device("cpu"))
    shutil.rmtree(tmp_path)  # 4.7 GB, which pytest would keep
    assert model.num_frames == 25
    seen = Recorder()
    params = ImageToVideoParams(
        image=Image.new("RGB", (128, 128), "red"), width=128, height=64, num_frames=2, num_inference_steps=1, seed=1
    )
    handler.run(model, params, seen)
    (film,) = seen.films
    assert (film.width, film.height, len(film.frames)) == (128, 64, 2)
