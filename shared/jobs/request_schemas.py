"""The parameters of a route as JSON schemas of a request: of its JSON, and of its form."""

from typing import Any

from shared.jobs import llm
from shared.jobs.dialect import MP4, dialect_of
from shared.schemas import Params

Schema = dict[str, Any]

COMPONENTS = "#/components/schemas/"
MEDIA_FORMATS = ("image", "video")
DELIVERY: Schema = {
    "type": "object",
    "description": '`{"put": [{"url", "headers"}]}`: a presigned URL for each output.',
    "additionalProperties": True,
}


def operation_id(route: str) -> str:
    """As Livepeer's runner names its operations: genTextToImage, genLLM."""
    return "gen" + ("LLM" if route == llm.NAME else "".join(word.capitalize() for word in route.split("-")))


def of_params(route: str, params: type[Params]) -> Schema:
    """The schemas of a route's parameters: as JSON, and as a form."""
    is_pipeline = params is not llm.LLMRequest
    prefix = f"{params.__name__}_" if is_pipeline else ""  # two pipelines may have parts of one name
    schema = params.model_json_schema(ref_template=f"{COMPONENTS}{prefix}{{model}}")
    named = {f"{prefix}{name}": plain(found) for name, found in schema.pop("$defs", {}).items()}
    schema = plain(schema)
    fields = {**_with_dialect(route, schema["properties"]), **({"delivery": DELIVERY} if is_pipeline else {})}
    for other, own in params.OTHER_NAMES.items():
        fields[other] = {**fields[own], "description": f"Another name of `{own}`."}
        fields[other].pop("default", None)
    form = {name: _in_a_form(field) for name, field in fields.items()}
    json = {name: _in_json(field) for name, field in fields.items()}
    name = f"Body_{operation_id(route)}"
    return {
        params.__name__: {**schema, "properties": json},
        name: {**schema, "title": name, "properties": form},
        **named,
    }


def _with_dialect(route: str, fields: Schema) -> Schema:
    """The fields with the defaults of the route, where it has its own."""
    found = {name: dict(field) for name, field in fields.items()}
    dialect = dialect_of(route)
    for name, default in {**dialect.fallbacks, **dialect.defaults}.items():
        found[name]["default"] = default
    if "stream" in found:
        found["stream"]["default"] = False
    if "video" in found.get("output", {}).get("enum", ()):
        found["output"]["enum"] = [*found["output"]["enum"], MP4]
    return found


def plain(schema: Any) -> Any:
    """A schema in the words that generators of clients know, which read OpenAPI 3.0.

    There is no null: what is optional may be left out. Bounds that a value must not have are next to them for whole
    numbers, and in words for others.
    """
    if isinstance(schema, list):
        return [plain(each) for each in schema if each != {"type": "null"}]
    if not isinstance(schema, dict):
        return schema
    found = {name: plain(value) for name, value in schema.items()}
    if len(found.get("anyOf", ())) == 1:
        (only,) = found.pop("anyOf")
        found = {**only, **found}
    if found.get("default", ...) is None:
        del found["default"]
    if "const" in found:
        found["enum"] = [found.pop("const")]
    for bound, side, words in (("exclusiveMinimum", "minimum", "More"), ("exclusiveMaximum", "maximum", "Less")):
        if isinstance(excluded := found.pop(bound, None), int | float):
            is_whole = found.get("type") == "integer"
            found[side] = excluded + (1 if side == "minimum" else -1) if is_whole else excluded
            if not is_whole:
                found["description"] = f"{found.get('description', '')} {words} than {excluded:g}.".strip()
    return found


def _in_json(field: Schema) -> Schema:
    if field.get("format") in MEDIA_FORMATS:
        return {**{name: value for name, value in field.items() if name != "format"}, "type": "string"}
    return {**field, "items": _in_json(field["items"])} if isinstance(field.get("items"), dict) else field


def _in_a_form(field: Schema) -> Schema:
    """Files are bytes, or text as in JSON; objects are JSON as text; lists repeat the field."""
    if field.get("format") in MEDIA_FORMATS:
        return {**field, "format": "binary"}
    if "anyOf" in field:
        field = {**{name: value for name, value in field.items() if name != "anyOf"}, **field["anyOf"][0]}
    if field.get("type") == "array":
        return {**field, "items": _in_a_form(field["items"])}
    if field.get("type") == "object" or "$ref" in field:
        return {"type": "string", "description": f"{field.get('description', '')} As JSON.".strip()}
    return field
