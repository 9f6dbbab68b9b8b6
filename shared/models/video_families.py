"""Families of models that set pictures in motion: the class of each, and which parameters it takes."""

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from shared.errors import InvalidInput, ModelUnavailable
from shared.models.diffusion import class_of
from shared.models.single_file import INDEX
from shared.schemas import ModelSource

Kind = Literal["stable-video-diffusion", "ltx", "wan"]
MOST_FRAMES = 257  # of the longest that any of them was made for: LTX-Video's model card
BY_MOTION = (
    "motion_bucket_id",
    "noise_aug_strength",
    "min_guidance_scale",
    "max_guidance_scale",
    "decode_chunk_size",
)
BY_PROMPT = ("prompt", "negative_prompt", "guidance_scale")


@dataclass(frozen=True)
class VideoFamily:
    """What the checkpoints of one class take besides what all take, and what they draw where a job says nothing."""

    kind: Kind
    pipeline: str  # the diffusers class that animates a picture with these parts
    takes: tuple[str, ...]
    fps: int
    num_frames: int = 0  # 0: the checkpoint says
    most_frames: int = MOST_FRAMES
    guidance_scale: float = 0.0
    least_steps: int = 1
    flag: str | None = None  # in the index of those that take a picture, where others of the class do not

    @property
    def foreign(self) -> tuple[str, ...]:
        """Parameters that only other families take."""
        return tuple(name for name in (*BY_MOTION, *BY_PROMPT) if name not in self.takes)

    def check(self, model_id: str, given: Collection[str], num_frames: int | None, steps: int) -> None:
        """Refuse what a job says and the family does not take; `given` are the names of the parameters it gives.

        Raises:
            InvalidInput: naming them, and those that it takes.
        """
        if foreign := [name for name in self.foreign if name in given]:
            raise InvalidInput(
                f"model '{model_id}' does not take {', '.join(foreign)}; it takes {', '.join(self.takes)}: leave the "
                "others out, or name another model"
            )
        if num_frames is not None and num_frames > self.most_frames:
            raise InvalidInput(f"num_frames is {num_frames}; '{model_id}' draws at most {self.most_frames}")
        if steps < self.least_steps:
            raise InvalidInput(f"num_inference_steps is {steps}; '{model_id}' takes at least {self.least_steps}")


# The defaults of diffusers' pipelines; and the model card of Wan2.2-TI2V-5B, which has the class of those that draw
# from text, and takes a picture all the same.
LTX = VideoFamily(
    "ltx",
    "LTXImageToVideoPipeline",
    BY_PROMPT,
    fps=25,
    num_frames=121,
    guidance_scale=3.0,
    least_steps=2,  # its scheduler stretches those after the first one, and divides by zero where there is none
)
WAN = VideoFamily("wan", "WanImageToVideoPipeline", BY_PROMPT, fps=16, num_frames=81, guidance_scale=5.0)
WAN_TI2V = VideoFamily(
    "wan", WAN.pipeline, BY_PROMPT, fps=24, num_frames=121, guidance_scale=5.0, flag="expand_timesteps"
)

# By `_class_name` in model_index.json; a new architecture is a new row.
FAMILIES: dict[str, VideoFamily] = {
    "StableVideoDiffusionPipeline": VideoFamily(
        "stable-video-diffusion", "StableVideoDiffusionPipeline", BY_MOTION, fps=6, most_frames=50
    ),
    "LTXPipeline": LTX,
    "LTXImageToVideoPipeline": LTX,
    "WanImageToVideoPipeline": WAN,
    "WanPipeline": WAN_TI2V,
}


def family_of(source: ModelSource) -> VideoFamily:
    """The family of a checkpoint, by its index; imports nothing.

    Raises:
        ModelUnavailable: it is no checkpoint, of no family here, or takes no picture.
    """
    class_name = class_of(source)
    if class_name not in FAMILIES:
        raise ModelUnavailable(
            f"'{source.model_id}' is a {class_name}; what animates pictures is one of: {', '.join(FAMILIES)}"
        )
    family = FAMILIES[class_name]
    if family.flag and not json.loads((source.path / INDEX).read_text()).get(family.flag):
        raise ModelUnavailable(f"'{source.model_id}' draws from text alone; name a model that takes a picture")
    return family
