"""The handlers' parameters as the web page reads them: ui_space/schemas.json."""

import json
from typing import Any

import handlers
from shared.schemas import Params

BOUNDS = {
    "minimum": "minimum",
    "exclusiveMinimum": "over",
    "maximum": "maximum",
    "multipleOf": "multiple_of",
    "maxLength": "max_length",
}
MEDIA = ("image", "video")


def schemas_text() -> str:
    """The file's text: for each pipeline what it does, whether it streams, and its fields in their order."""
    pipelines = {
        name: {
            "summary": handlers.get(name).params.__doc__ or "",
            "streams": handlers.get(name).stream,
            "fields": fields(handlers.get(name).params),
        }
        for name in handlers.names()
    }
    return json.dumps(pipelines, indent=1, ensure_ascii=False) + "\n"


def fields(params: type[Params]) -> list[dict[str, Any]]:
    """The parameters that a form can ask for; objects, such as a map of weights, are left to programs."""
    schema = params.model_json_schema()
    required = schema.get("required", [])
    return [
        {"name": name, "kind": kind, "required": name in required, **_told(prop, _option(prop))}
        for name, prop in schema["properties"].items()
        if (kind := _kind(_option(prop)))
    ]


def _option(prop: dict[str, Any]) -> dict[str, Any]:
    """What the parameter is where it is set; empty where it may be one of several things."""
    options = [option for option in prop.get("anyOf", [prop]) if option.get("type") != "null"]
    return options[0] if len(options) == 1 else {}


def _kind(option: dict[str, Any]) -> str | None:
    if "const" in option:  # nothing to choose
        return None
    if "enum" in option:
        return "choice"
    if option.get("format") in MEDIA:
        return str(option["format"])
    if option.get("type") == "array":
        return _kind_of_list(option["items"])
    return {"string": "text", "integer": "integer", "number": "number", "boolean": "flag"}.get(option.get("type", ""))


def _kind_of_list(item: dict[str, Any]) -> str | None:
    if item.get("format") == "image":
        return "images"
    return "json" if item.get("type") == "object" else None


def _told(prop: dict[str, Any], option: dict[str, Any]) -> dict[str, Any]:
    bounds = {ours: option[theirs] for theirs, ours in BOUNDS.items() if theirs in option}
    choices = {"choices": option["enum"]} if "enum" in option else {}
    default = {"default": prop["default"]} if prop.get("default") is not None else {}
    return {"description": prop.get("description", ""), **default, **bounds, **choices}
