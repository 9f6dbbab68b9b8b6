"""Hooks of schemathesis: valid requests that would take a CPU minutes are made small; wrong ones stay as they are."""

import io
from typing import Any

import schemathesis
from hypothesis import strategies
from PIL import Image
from schemathesis import Case, HookContext

MOST = {
    "num_inference_steps": 1,
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


def picture(*, cut: int = 0) -> bytes:
    """A PNG of 64 x 64 pixels, or so many bytes less of one."""
    file = io.BytesIO()
    Image.linear_gradient("L").resize((64, 64)).save(file, "PNG")
    return file.getvalue()[: -cut or None]


schemathesis.openapi.format("binary", strategies.sampled_from([picture(), picture(cut=30), b"no picture", b""]))


@schemathesis.hook
def before_call(context: HookContext, case: "Case[Any]", kwargs: dict[str, Any]) -> None:
    """Make a request small; what is no number there is wrong, and stays wrong."""
    if isinstance(case.body, dict):
        case.body = {name: smaller(name, value) for name, value in case.body.items()}


def smaller(name: str, value: Any) -> Any:
    """A parameter, but for one that asks for too much work."""
    most = MOST.get(name)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return most if most is not None and is_number and value > most else value
