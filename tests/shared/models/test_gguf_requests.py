"""Schemas, tools and other members of a request, as llama.cpp takes them."""

import json
from pathlib import Path
from typing import Any

import pytest

from shared.errors import InvalidInput
from shared.models.gguf import TextModel
from tests.shared.models.talk import SQUARE, heard, open_model, pieces
from tests.shared.models.tiny_gguf import write

SHAPE = {
    "type": "object",
    "properties": {
        "corners": {"type": "integer", "minimum": 0, "maximum": 99},
        "name": {"enum": ["square", "circle"]},
    },
    "required": ["corners", "name"],
    "additionalProperties": False,
}

ASKED = {"type": "json_schema", "json_schema": {"name": "shape", "schema": SHAPE}}


def test_an_answer_keeps_to_the_schema(demo_text: TextModel) -> None:
    body = {"temperature": 1.0, "response_format": ASKED, "max_tokens": 60}
    for seed in range(3):
        spoken = json.loads("".join(pieces(demo_text, SQUARE, **body, seed=seed)))
        written = json.loads("".join(heard(demo_text.complete, {"prompt": "A square", **body, "seed": seed})))
        for shape in (spoken, written):
            assert shape.keys() == {"corners", "name"}
            assert isinstance(shape["corners"], int)
            assert shape["name"] in ("square", "circle")


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"type": "object", "properties": {"c": {"$ref": "#"}}, "required": ["c"]},
        {"type": "object", "properties": {f"p{n}": {"type": "string"} for n in range(600)}},
    ],
    ids=["itself", "without end", "wide"],
)
def test_a_schema_that_llama_cpp_gives_up_is_an_error_not_any_text(
    demo_text: TextModel, schema: dict[str, Any]
) -> None:
    asked = {"type": "json_schema", "json_schema": {"schema": schema}}
    with pytest.raises(InvalidInput, match="response_format: the schema is too complex"):
        pieces(demo_text, "Hi", response_format=asked)


def test_a_schema_is_checked_before_anything_is_written(demo_text: TextModel) -> None:
    for call, body in ((demo_text.chat, {"messages": []}), (demo_text.complete, {"prompt": "x"})):
        with pytest.raises(InvalidInput, match=r'Unimplemented keys: .*"not"'):
            call(
                {**body, "response_format": {"type": "json_object", "schema": {"not": {}}}},
                lambda chunk: pytest.fail(),
            )


@pytest.mark.parametrize("back", [-1, 10**6])
def test_a_penalty_reaches_back_over_the_whole_context_at_most(endless_text: TextModel, back: int) -> None:
    """llama.cpp makes room for as many tokens as it is told, and refuses -1."""
    penalty = {"repeat_penalty": 1.5, "max_tokens": 100}
    expected = pieces(endless_text, "x", **penalty, repeat_last_n=endless_text.context)
    assert pieces(endless_text, "x", **penalty, repeat_last_n=back) == expected


TOOL = {"type": "function", "function": {"name": "draw", "parameters": {"type": "object"}}}


def test_tools_are_for_models_whose_template_has_them(demo_text: TextModel, tmp_path: Path) -> None:
    assert not demo_text.has_tools
    with pytest.raises(InvalidInput, match="tools: this model's template has none"):
        pieces(demo_text, "Hi", tools=[TOOL])
    template = "{% if tools %}{{ tools | tojson }}{% endif %}{% for m in messages %}{{ m.content }}{% endfor %}"
    assert open_model(write(tmp_path / "tools.gguf", template=template)).has_tools


IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


@pytest.mark.parametrize(
    "body",
    [
        {"messages": "hi"},
        {"messages": None},
        {},
        {"messages": [{}]},
        {"messages": ["hi"]},
        {"messages": [{"role": "user", "content": [IMAGE]}]},
        {"messages": [{"role": "user", "content": [{"type": "weird"}]}]},
        {"messages": [], "max_tokens": "many"},
        {"messages": [], "temperature": float("nan")},
        {"messages": [], "stop": [5]},
        {"messages": [], "tools": "x"},
        {"messages": [], "grammar": "root ::= ("},
        {"messages": [{"role": "user", "content": "\ud800"}]},
    ],
    ids=lambda body: str(body)[:60].encode("ascii", "replace").decode(),
)
def test_a_request_that_llama_cpp_cannot_read_is_refused(demo_text: TextModel, body: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        demo_text.chat(body, lambda chunk: None)


@pytest.mark.parametrize("prompt", [{}, 5, None, [None], [[1, "a"], {}], [10**6], [-1]], ids=str)
def test_a_prompt_that_llama_cpp_cannot_read_is_refused(demo_text: TextModel, prompt: Any) -> None:
    with pytest.raises(InvalidInput):
        demo_text.complete({"prompt": prompt}, lambda chunk: None)
