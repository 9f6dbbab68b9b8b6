"""Where a route differs from its pipeline's own parameters, so that clients of Livepeer's runner can call it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MP4 = "mp4"  # a value of `output`: the video alone, as a file


@dataclass(frozen=True)
class Dialect:
    """`defaults` are for what a request leaves open, `fallbacks` for what the model's entry leaves open too.

    `frames` answers pictures as the frames of one video.
    """

    defaults: Mapping[str, Any] = field(default_factory=dict)
    fallbacks: Mapping[str, Any] = field(default_factory=dict)
    frames: bool = False

    def job_input(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """A request's parameters as a job's input."""
        told = {"fallbacks": dict(self.fallbacks)} if self.fallbacks else {}
        return {**self.defaults, **given, **told}

    def answer(self, result: dict[str, Any]) -> dict[str, Any]:
        """The result in Livepeer's shape, where a seed is a number, also that of a file which had none: 0."""
        files: dict[str, Any] = {
            kind: [{**file, "seed": file["seed"] or 0} for file in result[kind]]
            for kind in ("images", "videos")
            if kind in result
        }
        if self.frames and "images" in files:
            files = {"frames": [files.pop("images")], **files}
        return {**files, **{name: each for name, each in result.items() if name not in ("images", "videos")}}


DIALECTS: Mapping[str, Dialect] = {
    "text-to-image": Dialect(fallbacks={"width": 1024, "height": 576, "num_inference_steps": 50}),
    "image-to-video": Dialect(defaults={"output": "frames"}, frames=True),  # its node makes the video of them
    "upscale": Dialect(defaults={"unused": "ignore"}),  # it always sends a prompt
}
PLAIN = Dialect()


def dialect_of(pipeline: str) -> Dialect:
    """The one of a pipeline; most have none."""
    return DIALECTS.get(pipeline, PLAIN)
