"""Embeddings by llama.cpp."""

import math
from pathlib import Path
from typing import Any

import gguf
import pytest

from shared.errors import Cancelled, InvalidInput
from shared.models.gguf import EMBEDDED_AT_ONCE, TextModel
from tests.shared.models.talk import heard, open_model, pieces
from tests.shared.models.tiny_gguf import write


def test_a_chat_model_makes_embeddings_of_length_one(demo_text: TextModel) -> None:
    answer = demo_text.embed(["a red circle", "a red circle", "What is Pilotlight?"])
    one, same, other = (entry["embedding"] for entry in answer["data"])
    assert math.hypot(*one) == pytest.approx(1, abs=1e-3)
    assert one == pytest.approx(same, abs=1e-4)
    assert sum(a * b for a, b in zip(one, other, strict=True)) < 0.999
    assert answer["usage"]["prompt_tokens"] > 0


def test_an_embedding_model_embeds_and_refuses_to_talk(tmp_path: Path) -> None:
    model = open_model(write(tmp_path / "embeds.gguf", pooling=gguf.PoolingType.MEAN))
    (entry,) = model.embed(["x" * 400])["data"]
    assert math.hypot(*entry["embedding"]) == pytest.approx(1, abs=1e-3)
    with pytest.raises(InvalidInput, match="only makes embeddings; send them to /v1/embeddings"):
        pieces(model, "x")
    with pytest.raises(InvalidInput, match="only makes embeddings"):
        heard(model.complete, {"prompt": "x"})


@pytest.mark.parametrize(
    ("inputs", "complaint"),
    [
        ([""], "cannot be empty"),
        ([[]], "cannot be empty"),
        (["x", ""], "cannot be empty"),
        ([[10**6]], "invalid tokens"),
        ([[-1]], "invalid tokens"),
        (["x"] * EMBEDDED_AT_ONCE + [""], "cannot be empty"),
        (["x " * 3000], "the text has 6000 tokens, and one to embed may have 512 here"),
    ],
    ids=["empty", "no tokens", "one of two", "above", "below", "later", "long"],
)
def test_embeddings_that_cannot_be_made_are_refused(demo_text: TextModel, inputs: list[Any], complaint: str) -> None:
    with pytest.raises(InvalidInput, match=complaint):
        demo_text.embed(inputs)


def test_an_encoding_that_there_is_not_is_refused(demo_text: TextModel) -> None:
    with pytest.raises(InvalidInput):
        demo_text.embed(["x"], "x")


def test_many_embeddings_are_numbered_and_counted_as_one(demo_text: TextModel) -> None:
    inputs: list[str | list[int]] = [f"shape {n}" for n in range(EMBEDDED_AT_ONCE)]
    answer = demo_text.embed([*inputs, *inputs, "last"])
    assert [entry["index"] for entry in answer["data"]] == list(range(2 * EMBEDDED_AT_ONCE + 1))
    parts = [demo_text.embed(part)["usage"] for part in (inputs, inputs, ["last"])]
    assert answer["usage"] == {name: sum(part[name] for part in parts) for name in parts[0]}
    first, again = (answer["data"][index]["embedding"] for index in (5, EMBEDDED_AT_ONCE + 5))
    assert first == pytest.approx(again, abs=1e-4)


def test_embeddings_stop_between_a_few_of_them(demo_text: TextModel) -> None:
    calls: list[int] = []

    def check() -> None:
        calls.append(1)
        if len(calls) == 3:
            raise Cancelled("asked")

    with pytest.raises(Cancelled):
        demo_text.embed(["x"] * 2000, check=check)
    assert len(calls) == 3
    calls = [0] * 3
    assert len(demo_text.embed(["x"] * 65, check=check)["data"]) == 65
    assert len(calls) == 6
