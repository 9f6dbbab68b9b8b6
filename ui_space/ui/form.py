"""A pipeline's form: one component a field."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr

from ui.inputs import job_input, restored
from ui.schemas import Field, Schema

LONG_TEXT = 1000  # a text that may be longer gets several lines
MOST_SLIDER_STEPS = 5000
FILES = ("image", "video", "images")
BY_ITSELF = "automatic"


class Form:
    """The components of a pipeline's fields, in the order in which they were made."""

    def __init__(self, schema: Schema, defaults: Mapping[str, Any]) -> None:
        """Make the components here in the page: those in sight, then the others folded away."""
        self.schema = schema
        self._defaults = defaults
        self.components: dict[str, gr.components.Component] = {}
        self._add(schema.in_sight)
        if schema.advanced:
            with gr.Accordion("Advanced", open=False):
                self._add(schema.advanced)

    def _add(self, fields: Sequence[Field]) -> None:
        for field in fields:
            self.components[field.name] = component(field, self._default(field))

    def _default(self, field: Field) -> Any:
        return self._defaults.get(field.name, own_default(field))

    @property
    def inputs(self) -> list[gr.components.Component]:
        """The components, for an event to read."""
        return list(self.components.values())

    def job_input(self, values: Sequence[Any]) -> dict[str, Any]:
        """What the visitor set, as a job's input; see `inputs.job_input`."""
        return job_input(self.schema, dict(zip(self.components, values, strict=True)), self._defaults)

    def showing(self, params: Mapping[str, Any]) -> dict[gr.components.Component, Any]:
        """The form as it was when it sent these parameters, which anybody may have written; files are not in them."""
        return {self.components[field.name]: self._update(field, params) for field in self.schema.fields}

    def _update(self, field: Field, params: Mapping[str, Any]) -> Any:
        component, value = self.components[field.name], restored(field, params.get(field.name))
        said = self._default(field) if value is None else value
        if isinstance(component, gr.Slider):
            said = min(max(said, component.minimum), component.maximum)
        return gr.update(value=held(field, said, slides=isinstance(component, gr.Slider)))


def own_default(field: Field) -> Any:
    """The handler's default; the page asks for previews, since it shows them."""
    return True if field.name == "preview" else field.default


def held(field: Field, value: Any, *, slides: bool = False) -> Any:
    """What the component of a field holds for a value; numbers are typed where they do not slide."""
    if field.kind in FILES:
        return None
    if field.kind == "json":
        return json.dumps(value, indent=1) if value else None
    if field.kind == "flag":
        return bool(value)
    if field.kind == "choice":
        return value or ""
    return value if field.kind == "text" or slides or value is None else str(value)


def component(field: Field, value: Any) -> gr.components.Component:
    """The component of a field that shows a value."""
    named = {"label": field.label, "elem_classes": [f"field-{field.name}"]}
    told = {**named, "info": field.description}
    if field.kind == "image":
        return gr.Image(**named, type="filepath", image_mode=None, sources=["upload", "clipboard"], height=240)
    if field.kind == "video":
        return gr.Video(**named, sources=["upload"], height=240)
    if field.kind == "images":
        return gr.File(**named, file_count="multiple", file_types=["image"], height=160)
    if field.kind == "json":
        label = f"{field.label} (JSON)"  # this component has no room for a description
        return gr.Code(**{**named, "label": label}, language="json", lines=5, value=held(field, value))
    if field.kind == "flag":
        return gr.Checkbox(**told, value=held(field, value))
    if field.kind == "choice":
        choices = [*field.choices] if field.default is not None else [(BY_ITSELF, ""), *field.choices]
        return gr.Dropdown(**told, choices=choices, value=held(field, value))
    if field.kind == "text":
        lines = 3 if (field.max_length or 0) >= LONG_TEXT else 1
        return gr.Textbox(**told, value=value, lines=lines, max_length=field.max_length)
    return _number(field, value, told)


def _number(field: Field, value: Any, told: dict[str, Any]) -> gr.components.Component:
    """A slider where both ends are known and there is a value, else a line that may stay empty.

    Gradio's own box for numbers shows an empty one as 0.
    """
    step = slider_step(field)
    low = field.over + step if field.over is not None else field.minimum
    high = field.maximum
    if value is not None and low is not None and high is not None and (high - low) / step <= MOST_SLIDER_STEPS:
        return gr.Slider(low, high, value, step=step, **told)
    return gr.Textbox(**told, value=held(field, value), placeholder=BY_ITSELF, max_length=20)


def slider_step(field: Field) -> float:
    """How far a number moves at once: its unit, else a hundredth of a small range and a tenth of a large one."""
    if field.multiple_of:
        return field.multiple_of
    if field.kind == "integer":
        return 1
    return 0.01 if field.maximum is not None and field.maximum <= 1 else 0.1
