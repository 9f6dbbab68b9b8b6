"""A job's input from what a form holds."""

import json
import math
from collections.abc import Container, Mapping
from typing import Any

from ui.failures import Failure
from ui.media import data_url
from ui.schemas import Field, Schema


def job_input(schema: Schema, values: Mapping[str, Any], configured: Container[str]) -> dict[str, Any]:
    """The fields that say something, by their names.

    What is empty is left to the worker. So is the handler's own default, since not every model takes every field,
    except where the page's configuration names that field: its model may have another default.

    Raises:
        Failure: something that is needed is missing, or cannot be sent.
    """
    given: dict[str, Any] = {"pipeline": schema.pipeline}
    in_sight = schema.in_sight
    for field in schema.fields:
        value = values.get(field.name)
        if value in (None, "", []):
            if field.required and field in in_sight:
                raise Failure("invalid_input", f"{field.label} is missing.")
            continue
        said = sent(field, value)
        if said != field.default or field.name in configured:
            given[field.name] = said
    return given


def sent(field: Field, value: Any) -> Any:
    """A component's value as the endpoint takes it."""
    if field.kind in ("image", "video"):
        return data_url(value)
    if field.kind == "images":
        return [data_url(path) for path in value]
    if field.kind in ("integer", "number"):
        return number(field, value)
    if field.kind == "json":
        try:
            return json.loads(value)
        except ValueError as exc:
            raise Failure("invalid_input", f"{field.label} is not JSON ({exc}).") from None
    return value


def number(field: Field, value: Any) -> float:
    """The number that a slider holds, or that somebody typed; its bounds are the endpoint's to judge.

    Raises:
        Failure: it is no number.
    """
    try:
        return int(value) if field.kind == "integer" else float(value)
    except ValueError:
        kind = "a whole number" if field.kind == "integer" else "a number"
        raise Failure("invalid_input", f"{field.label} must be {kind}, or empty.") from None


def restored(field: Field, value: Any) -> Any:
    """A parameter that a receipt or a browser kept, where the field can show it, else None; files are not kept."""
    if field.kind == "text":
        return value[: field.max_length] if isinstance(value, str) else None
    if field.kind == "flag":
        return value if isinstance(value, bool) else None
    if field.kind == "choice":
        return value if value in field.choices else None
    if field.kind == "json":
        return value if isinstance(value, dict | list) else None
    counts = field.kind in ("integer", "number") and isinstance(value, int | float) and not isinstance(value, bool)
    return value if counts and math.isfinite(value) else None
