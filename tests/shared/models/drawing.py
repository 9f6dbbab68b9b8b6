"""Drawing by tiny diffusion checkpoints."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageChops

from handlers import image_to_image, text_to_image
from handlers.image_to_image import ImageToImageParams
from handlers.text_to_image import TextToImageParams
from shared.device import Device
from shared.models.diffusion import Diffusion, Task
from shared.schemas import ModelSource
from tests.shared.models.recorder import Recorder

CPU = Device("cpu")
DRAW: Task = "text-to-image"
CHANGE: Task = "image-to-image"
DRAWN: dict[str, Any] = {"prompt": "a red circle", "num_inference_steps": 2, "seed": 7, "guidance_scale": 3.0}
SIZE = {"width": 64, "height": 64}
PICTURE = Image.linear_gradient("L").resize((64, 64)).convert("RGB")


def source(path: Path, model_id: str = "ours/tiny") -> ModelSource:
    """A checkpoint in a folder."""
    return ModelSource(model_id, "main", path)


def draw(model: Diffusion, ctx: Recorder | None = None, **params: Any) -> Image.Image:
    """The first picture that text-to-image draws."""
    ctx = ctx or Recorder()
    text_to_image.run(model, TextToImageParams(**{**DRAWN, **SIZE, **params}), ctx)
    return ctx.made[0].image


def change(model: Diffusion, ctx: Recorder | None = None, **params: Any) -> Image.Image:
    """The first picture that image-to-image makes of PICTURE."""
    ctx = ctx or Recorder()
    image_to_image.run(model, ImageToImageParams(**{**DRAWN, "image": PICTURE, **params}), ctx)
    return ctx.made[0].image


def same(one: Image.Image, other: Image.Image) -> bool:
    """Whether all pixels are alike."""
    return one.tobytes() == other.tobytes()


def edit(file: Path, **changes: Any) -> None:
    """Change members of a JSON file."""
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def psnr(one: Image.Image, other: Image.Image) -> float:
    """Peak signal to noise in dB."""
    difference = np.asarray(ImageChops.difference(one, other), np.float64)
    return float(10 * np.log10(255**2 / max(float(np.mean(difference**2)), 1e-9)))
