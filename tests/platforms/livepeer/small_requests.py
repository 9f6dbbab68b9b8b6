"""Hooks of schemathesis: what takes a CPU minutes is made small, and most of what the schema allows is made whole."""

import base64
import io
import random
from typing import Any

import schemathesis
from hypothesis import strategies
from PIL import Image
from schemathesis import Case, GenerationMode, HookContext

from handlers.text_generation import TextGenerationParams

Body = dict[str, Any]
FORM = "multipart/form-data"
MOST = {
    "num_inference_steps": 2,
    "width": 64,
    "height": 64,
    "num_images_per_prompt": 1,
    "num_frames": 2,
    "interpolate": 1,
    "target_fps": 30,
    "factor": 2,
    "in_between": 1,
    "max_new_tokens": 16,
    "max_tokens": 16,
    "max_completion_tokens": 16,
}
AS_GENERATED = 0.2  # of the requests that the schema calls right


def picture(*, cut: int = 0) -> bytes:
    """A PNG of 64 x 64 pixels, or so many bytes less of one."""
    file = io.BytesIO()
    Image.linear_gradient("L").resize((64, 64)).save(file, "PNG")
    return file.getvalue()[: -cut or None]


def film() -> bytes:
    """A GIF of three frames of 64 x 64 pixels."""
    file = io.BytesIO()
    frames = [Image.new("L", (64, 64), shade) for shade in (0, 100, 200)]
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=100)
    return file.getvalue()


PICTURES = [picture(), picture(), picture(cut=30)]
FILES = {"image": PICTURES, "images": PICTURES, "video": [film(), picture()]}
DRAW, MOVE, ENLARGE = (
    {"pipeline": "text-to-image", "prompt": "a red circle"},
    {"pipeline": "image-to-video"},
    {"pipeline": "upscale"},
)
SAMPLES: dict[str, list[Any]] = {
    "prompt": ["a red circle"],
    "messages": [[{"role": "user", "content": "How many corners does a square have?"}]],
    "steps": [[DRAW], [DRAW, ENLARGE], [DRAW, MOVE], [DRAW, MOVE, {"pipeline": "frame-interpolation", "factor": 2}]],
}
# Where exactly one of several is needed, which the schema does not say.
ONE_OF = {
    "/frame-interpolation": ("images", "video"),
    "/upscale": ("image", "video"),
    "/text-generation": ("prompt", "messages"),
    "/workflow": ("prompt", "steps"),
}
# What the demo models do not take.
FOREIGN = {
    "/image-to-video": ("prompt", "negative_prompt", "guidance_scale"),
    "/upscale": ("denoise_strength",),
}

# Text, which is no file yet: schemathesis 4.32 stumbles over bytes of its own making where it spoils a form.
schemathesis.openapi.format("binary", strategies.sampled_from(["no picture", ""]))


@schemathesis.hook
def before_call(context: HookContext, case: "Case[Any]", kwargs: dict[str, Any]) -> None:
    """Make a request whole, where the schema calls it right, and small."""
    if isinstance(case.body, dict):
        is_right = case.meta is not None and case.meta.generation.mode == GenerationMode.POSITIVE
        body = whole(case.path, case.body, as_bytes=case.media_type == FORM) if is_right else case.body
        case.body = {name: smaller(name, value) for name, value in body.items()}


def whole(path: str, body: Body, *, as_bytes: bool) -> Body:
    """Mostly with what the demo models can run, and one of what excludes each other; always alike for one request."""
    dice = random.Random(repr(body))
    if dice.random() < AS_GENERATED:
        return body
    body = {name: value for name, value in body.items() if name not in ("model_id", *FOREIGN.get(path, ()))}
    if path == "/text-generation":
        body = {TextGenerationParams.OTHER_NAMES.get(name, name): value for name, value in body.items()}
    if choices := ONE_OF.get(path):
        kept = dice.choice([name for name in choices if name in body] or choices)
        body = {kept: None, **{name: value for name, value in body.items() if name == kept or name not in choices}}
    files = {name: dice.choice(FILES[name]) for name in FILES if name in body}
    sent = {name: file if as_bytes else url(file) for name, file in files.items()}
    others = {n: dice.choice(SAMPLES[n]) for n, value in body.items() if n in SAMPLES and not isinstance(value, str)}
    return {**body, **others, **sent, **({"images": [sent["images"]] * 2} if "images" in sent else {})}


def url(file: bytes) -> str:
    """The file as JSON carries it."""
    return f"data:application/octet-stream;base64,{base64.b64encode(file).decode()}"


def smaller(name: str, value: Any) -> Any:
    """A parameter, but for one that asks for too much work; what is no number there is wrong, and stays wrong."""
    most = MOST.get(name)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return most if most is not None and is_number and value > most else value
