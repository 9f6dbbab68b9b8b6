"""The JSON that an answer must be: a grammar that llama.cpp keeps, or a refusal in words."""

import json
from typing import Any

import pytest

from shared.errors import InvalidInput
from shared.models.json_schema import HEAD, MAX_SCHEMA, MOST_REPEATS, Follower, constrained, grammar

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}


def schema_of(body: dict[str, Any]) -> Any:
    """The schema whose grammar a request goes on with."""
    kept = constrained(body)
    assert not {"response_format", "json_schema"} & kept.keys()
    return json.loads(kept["grammar"].removeprefix(HEAD))


@pytest.mark.parametrize("wanted", [None, {"type": "text"}])
def test_a_request_for_any_text_has_no_grammar(wanted: Any) -> None:
    assert constrained({"prompt": "a", "response_format": wanted}) == {"prompt": "a"}


@pytest.mark.parametrize(
    "body",
    [
        {"response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}}},
        {"response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA, "name": "x", "strict": True}}},
        {"response_format": {"type": "json_object", "schema": SCHEMA}},
        {"json_schema": SCHEMA},
        {"json_schema": SCHEMA, "response_format": {"type": "text"}},
    ],
)
def test_a_schema_is_taken_in_every_shape_it_is_sent_in(body: dict[str, Any]) -> None:
    assert SCHEMA.items() <= schema_of(body).items()


def test_any_json_is_an_object() -> None:
    assert schema_of({"response_format": {"type": "json_object"}})["type"] == "object"


def test_the_grammar_takes_the_place_of_another() -> None:
    assert constrained({"grammar": "root ::= x", "json_schema": SCHEMA})["grammar"].startswith(HEAD)


def test_beside_tools_the_request_is_left_to_llama_cpp() -> None:
    body = {"tools": [{}], "response_format": {"type": "json_object"}}
    assert constrained(body) == body
    assert constrained({"tools": [{}]}) == {"tools": [{}]}


@pytest.mark.parametrize(
    ("shape", "complaint"),
    [
        ({"const": "x" * MAX_SCHEMA}, "characters; the most are 50000"),
        ({"items": {"maxItems": MOST_REPEATS + 1}}, "maxItems is 10001; the most is 10000"),
    ],
    ids=["long", "repeats"],
)
def test_beside_tools_both_schemas_have_their_bounds(shape: dict[str, Any], complaint: str) -> None:
    tool = {"type": "function", "function": {"name": "draw", "parameters": shape}}
    wanted = {"type": "json_object", "schema": shape}
    for body in ({"tools": [tool]}, {"tools": [{}], "response_format": wanted}):
        with pytest.raises(InvalidInput, match=complaint):
            constrained(body)


@pytest.mark.parametrize(
    "wanted",
    [
        "json",
        5,
        [],
        {},
        {"type": None},
        {"type": "xml"},
        {"type": "json_schema"},
        {"type": "json_schema", "json_schema": None},
        {"type": "json_schema", "json_schema": {}},
        {"type": "json_schema", "json_schema": "x"},
        {"type": "json_schema", "schema": SCHEMA},
    ],
    ids=json.dumps,
)
def test_another_shape_is_refused_with_the_right_one(wanted: Any) -> None:
    with pytest.raises(InvalidInput, match=r'response_format: send \{"type": "json_schema"'):
        constrained({"response_format": wanted})


@pytest.mark.parametrize(
    ("schema", "complaint"),
    [
        ([], "schema must be an object or boolean"),
        ("x", "schema must be an object or boolean"),
        (5, "schema must be an object or boolean"),
        (False, "schema is false"),
        ({"type": "nonsense"}, "Invalid type: nonsense"),
        ({"enum": []}, "Unsatisfiable"),
        ({"type": "string", "pattern": "("}, "regex parse error"),
        ({"type": "string", "pattern": "(?=a)b"}, "regex parse error"),
        ({"type": "string", "format": "nonsense"}, "Unknown format"),
        ({"$ref": "#/$defs/none"}, "does not exist"),
        ({"$ref": "http://127.0.0.1:9/x"}, "retrieving it failed"),
        *[({name: value}, f'Unimplemented keys: \\["{name}') for name, value in {
            "not": {}, "if": {}, "uniqueItems": True, "contains": {}, "dependentRequired": {"a": ["b"]},
            "propertyNames": {"pattern": "a"}, "unevaluatedProperties": False}.items()],
        *[({name: MOST_REPEATS + 1}, f"{name} is 10001; the most is 10000") for name in
          ("minItems", "maxItems", "minProperties", "maxProperties", "minLength")],
        ({"properties": {"a": {"items": [{"maxItems": 1e9}]}}}, "maxItems is 1e\\+09"),
        ({"const": "x" * MAX_SCHEMA}, "characters; the most are 50000"),
        ({"const": "\ud800"}, "failed to parse"),
        ({"const": float("nan")}, "failed to parse"),
        ({"const": 10**400}, "out of range"),
    ],
    ids=lambda value: str(value)[:40].encode("ascii", "replace").decode(),
)  # fmt: skip
def test_a_schema_that_would_not_be_kept_is_refused(schema: Any, complaint: str) -> None:
    with pytest.raises(InvalidInput, match=f"response_format: .*{complaint}"):
        grammar(schema)


@pytest.mark.parametrize("depth", [100, 5000])
def test_a_schema_that_is_nested_too_deeply_is_refused(depth: int) -> None:
    schema: dict[str, Any] = {}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema}}
    with pytest.raises(InvalidInput, match=r"recursion limit|nested too deeply"):
        grammar(schema)


def test_a_text_is_followed_however_it_is_cut() -> None:
    whole = '{"a": 12}'
    for size in (1, 2, 5, 100):
        follower = Follower(grammar(SCHEMA))
        for start in range(0, len(whole), size):
            follower.read(whole[start : start + size])


@pytest.mark.parametrize("text", ["Hello", '{"b"', '{"a": "x"', '{"a": 1} and', '{"a":1}', " {"])
def test_a_text_that_leaves_the_grammar_is_noticed(text: str) -> None:
    follower = Follower(grammar(SCHEMA))
    with pytest.raises(InvalidInput, match="too complex to be kept"):
        for letter in text:
            follower.read(letter)


def test_a_text_of_several_bytes_a_character_is_followed() -> None:
    Follower(grammar({"enum": ["青い", "😀"]})).read('"青い"')
