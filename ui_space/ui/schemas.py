"""What the pipelines take, as schemas.json says it, in the order in which a form shows it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Kind = Literal["text", "integer", "number", "flag", "choice", "image", "video", "images", "json"]

IN_SIGHT = (
    "image",
    "video",
    "images",
    "prompt",
    "negative_prompt",
    "strength",
    "scale",
    "width",
    "height",
    "num_frames",
    "target_fps",
    "num_inference_steps",
    "guidance_scale",
    "num_images_per_prompt",
    "seed",
)
"""Fields that stand before the fold, in this order; the rest is under Advanced, unless it is required."""
FEW = 8  # fields that need no fold, where nothing else is in one


@dataclass(frozen=True)
class Field:
    """One parameter; `minimum` and `maximum` are included in what is allowed, `over` is not."""

    name: str
    kind: Kind
    description: str = ""
    required: bool = False
    default: Any = None
    minimum: float | None = None
    over: float | None = None
    maximum: float | None = None
    multiple_of: float | None = None
    max_length: int | None = None
    choices: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The name as a person reads it."""
        return self.name.removeprefix("num_").replace("_", " ").capitalize()


@dataclass(frozen=True)
class Schema:
    """One pipeline's form."""

    pipeline: str
    summary: str
    streams: bool
    fields: tuple[Field, ...]

    @property
    def title(self) -> str:
        """The pipeline's name as a person reads it."""
        return title_of(self.pipeline)

    @property
    def in_sight(self) -> list[Field]:
        """What most jobs set: the known ones in their order, then others that are required; all where they are few.

        JSON is for those who look for it, unless nothing runs without it; what a prompt can say does.
        """
        order = {name: place for place, name in enumerate(IN_SIGHT)}
        needs_json = not self.field("prompt")
        seen = [f for f in self.fields if f.kind != "json" or (f.required and needs_json)]
        if len(seen) < len(self.fields) or len(seen) > FEW:
            seen = [f for f in seen if f.required or f.name in IN_SIGHT]
        return sorted(seen, key=lambda f: order.get(f.name, len(order)))

    @property
    def advanced(self) -> list[Field]:
        """The rest, in the handler's order."""
        seen = self.in_sight
        return [f for f in self.fields if f not in seen]

    def field(self, name: str) -> Field | None:
        """The field of a name, if the pipeline has it."""
        return next((f for f in self.fields if f.name == name), None)

    def takes(self, kind: str) -> Field | None:
        """The field that takes one file of a kind, `image` or `video`."""
        return next((f for f in self.fields if f.kind == kind), None)


def title_of(pipeline: str) -> str:
    """`text-to-image` as `Text to image`."""
    return pipeline.replace("-", " ").capitalize()


def read(path: Path) -> dict[str, Schema]:
    """The pipelines of a schemas.json, by name."""
    return {
        name: Schema(name, body["summary"], body["streams"], tuple(map(_field, body["fields"])))
        for name, body in json.loads(path.read_text()).items()
    }


def _field(body: dict[str, Any]) -> Field:
    return Field(**{**body, "choices": tuple(body.get("choices", ()))})
