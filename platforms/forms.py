"""The handlers' parameters as the web page makes forms of them: its schemas.json."""

import json
from typing import Any

from shared.schemas import Params, Registry

BOUNDS = {
    "minimum": "minimum",
    "exclusiveMinimum": "over",
    "maximum": "maximum",
    "multipleOf": "multiple_of",
    "maxLength": "max_length",
}
MEDIA = ("image", "video")


def schemas_text(registry: Registry) -> str:
    """The file's text: for each pipeline what it does, whether it streams, and its fields in their order."""
    found = {name: registry.get(name) for name in registry.names()}
    pipelines = {
        name: {
            "summary": handler.params.__doc__ or "",
            "streams": handler.stream,
            "fields": fields(handler.params),
        }
        for name, handler in found.items()
    }
    return json.dumps(pipelines, indent=1, ensure_ascii=False) + "\n"


def fields(params: type[Params]) -> list[dict[str, Any]]:
    """The parameters that a form can ask for; others, such as a map of weights, as JSON where nothing runs without.

    Those that nothing asks for are left to programs.
    """
    schema = params.model_json_schema()
    required, named = schema.get("required", []), schema.get("$defs", {})
    options = {name: _option(prop, named) for name, prop in schema.get("properties", {}).items()}
    return [
        {"name": name, "kind": kind, "required": name in required, **_told(schema["properties"][name], option)}
        for name, option in options.items()
        if (kind := _kind(option) or ("json" if name in required else None))
    ]


def _option(prop: dict[str, Any], named: dict[str, Any]) -> dict[str, Any]:
    """What the parameter is where it is set; empty where it may be one of several things."""
    options = [option for option in prop.get("anyOf", [prop]) if option.get("type") != "null"]
    option = options[0] if len(options) == 1 else {}
    return {**named[option["$ref"].rpartition("/")[2]], **option} if "$ref" in option else option


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
