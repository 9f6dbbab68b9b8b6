"""What a request to OpenAI's API may have, member by member."""

from typing import Any

import pytest

from shared.errors import InvalidInput
from shared.models.request_body import MOST_SAID, ChatBody, CompletionBody, EmbeddingBody, check

CHAT = {"messages": [{"role": "user", "content": "Hi"}]}
WRITE = {"prompt": "Hi"}
EMBED = {"input": "Hi"}
KINDS: list[Any] = [(ChatBody, CHAT), (CompletionBody, WRITE), (EmbeddingBody, EMBED)]
TALKS = KINDS[:2]
MOST_SEED = 2**32 - 2
STRINGS = [str(n) for n in range(65)]
BIASES = {str(n): 1.0 for n in range(301)}
# Of each member: what it may be, its bounds among that, and what it may not be.
SAMPLING: dict[str, tuple[list[Any], list[Any]]] = {
    "stream": ([True, False], [1, "true", "x", []]),
    "stream_options": ([{}, {"include_usage": True}, {"include_obfuscation": False}], [5, "x", [], {"more": 1}]),
    "store": ([False], [True, "x"]),
    "service_tier": (["auto", "default"], ["flex", 1]),
    "n": ([1], [0, 2, "1", [], -1]),
    "max_tokens": ([1, 10**6], [0, -1, 10**6 + 1, 1.5, "many"]),
    "temperature": ([0, 10], [-0.1, 10.1, float("nan"), float("inf"), "warm"]),
    "top_p": ([0.01, 1], [0, 1.1, float("nan")]),
    "top_k": ([0, 10**6], [-1, 10**6 + 1, 1.5]),
    "min_p": ([0, 1], [-0.1, 1.1]),
    "typical_p": ([0.01, 1], [0, 1.1]),
    "repeat_penalty": ([0.01, 10], [0, 10.1]),
    "repeat_last_n": ([-1, 0, 10**6], [-2, 10**6 + 1]),
    "frequency_penalty": ([-2, 2], [-2.1, 2.1]),
    "presence_penalty": ([-2, 2], [-2.1, 2.1]),
    "seed": ([-1, 0, MOST_SEED], [-2, MOST_SEED + 1]),
    "stop": (["x", "x" * 1000, ["x"], [], STRINGS[:64]], ["", "x" * 1001, [""], STRINGS, 5, [5]]),
    "logit_bias": (
        [{}, {"1": -100, "9999999": 100}, dict(list(BIASES.items())[:300])],
        [BIASES, [], {"a": 1}, {"12345678": 1}, {"-1": 1}, {"1": "b"}, {"1": float("nan")}, {"\u0663": 1}],
    ),
    "response_format": ([{"type": "text"}, {}], ["json", [], 5]),
}
CHATS: dict[str, tuple[list[Any], list[Any]]] = {
    "messages": ([CHAT["messages"]], [[], "Hi", ["Hi"], 5]),
    "max_completion_tokens": ([1, 10**6], [0, 10**6 + 1]),
    "tools": ([[], [{}] * 128], [[{}] * 129, {}, "x", ["x"]]),
    "tool_choice": (["auto", {"type": "function"}], [5, []]),
    "parallel_tool_calls": ([True, False], ["x", 5]),
    "logprobs": ([True, False], [5, "x"]),
    "top_logprobs": ([0, 20], [-1, 21]),
    "reasoning_effort": (["low", "x" * 20], ["x" * 21, 5]),
    "chat_template_kwargs": ([{}, {str(n): n for n in range(20)}], [{str(n): n for n in range(21)}, [], {"a": []}]),
}
COMPLETIONS: dict[str, tuple[list[Any], list[Any]]] = {
    "prompt": (
        ["", "a", ["a"], [0, 2**31 - 1]],
        [[], ["a", "b"], 5, {}, [None], [1, "a"], [-1], [2**31], [[1]], [["a"]]],
    ),
    "logprobs": ([0, 5], [-1, 6, "x"]),
    "echo": ([False], [True]),
    "best_of": ([1], [0, 2]),
}
EMBEDDINGS: dict[str, tuple[list[Any], list[Any]]] = {
    "input": (
        ["a", ["a", "b"], [1, 2], [[1], [2]], ["a"] * 2048, [[1]] * 2048],
        [[], 5, {}, [None], ["a"] * 2049, [[1]] * 2049, ["a", 1], [-1], [[2**31]]],
    ),
    "encoding_format": (["float", "base64"], ["int8", 5]),
}
ANY: dict[str, tuple[list[Any], list[Any]]] = {
    "model": (["x"], [5, []]),
    "user": (["x"], [5]),
    "safety_identifier": (["x"], [5]),
    "metadata": ([{}, {"a": "b"}], [5, {"a": 5}]),
}
MEMBERS = [
    *((kind, given, ANY) for kind, given in KINDS),
    *((kind, given, SAMPLING) for kind, given in TALKS),
    *((kind, given, own) for (kind, given), own in zip(KINDS, (CHATS, COMPLETIONS, EMBEDDINGS), strict=True)),
]
GOOD = [(kind, given, n, v) for kind, given, of in MEMBERS for n, (good, _) in of.items() for v in good]
BAD = [(kind, given, n, v) for kind, given, of in MEMBERS for n, (_, bad) in of.items() for v in bad]


def shown(value: Any) -> str:
    name = value.__name__ if isinstance(value, type) else str(value)
    return str(name[:30].encode("ascii", "replace").decode())


@pytest.mark.parametrize(("kind", "given", "name", "value"), GOOD, ids=shown)
def test_a_member_may_be(kind: Any, given: dict[str, Any], name: str, value: Any) -> None:
    assert name in check(kind, {**given, name: value}).model_fields_set


@pytest.mark.parametrize(("kind", "given", "name", "value"), BAD, ids=shown)
def test_a_member_may_not_be(kind: Any, given: dict[str, Any], name: str, value: Any) -> None:
    with pytest.raises(InvalidInput, match=f"^invalid_input: {name}[.:]"):
        check(kind, {**given, name: value})


def test_every_member_is_tested() -> None:
    for kind, _ in KINDS:
        tested = {name for of_kind, _, of in MEMBERS if of_kind is kind for name in of}
        assert tested == kind.model_fields.keys()


@pytest.mark.parametrize(("kind", "given"), KINDS, ids=shown)
def test_null_is_not_given(kind: Any, given: dict[str, Any]) -> None:
    nothing = dict.fromkeys((*kind.model_fields, "grammar", "suffix"))
    assert check(kind, {**nothing, **given}) == check(kind, given)


@pytest.mark.parametrize(("kind", "given"), KINDS, ids=shown)
def test_what_is_needed_is_named(kind: Any, given: dict[str, Any]) -> None:
    (needed,) = given
    for body in ({}, {needed: None}):
        with pytest.raises(InvalidInput, match=f"^invalid_input: {needed}: Field required"):
            check(kind, body)


LLAMA_CPPS = [
    *("grammar", "grammar_lazy", "grammar_triggers", "preserved_tokens", "json_schema", "dry_multiplier"),
    *("dry_sequence_breakers", "samplers", "lora", "id_slot", "n_probs", "cache_prompt", "n_predict", "n_cmpl"),
    *("return_progress", "ignore_eos", "n_keep", "mirostat", "t_max_predict_ms", "image", "image_data", "images"),
    *("multimodal_data", "speculative.n_max", "post_sampling_probs", "return_tokens", "min_keep", "backend_sampling"),
]


@pytest.mark.parametrize(("kind", "given"), KINDS, ids=shown)
@pytest.mark.parametrize("name", LLAMA_CPPS)
def test_other_members_are_refused_by_name(kind: Any, given: dict[str, Any], name: str) -> None:
    with pytest.raises(InvalidInput, match=f"^invalid_input: {name}: not known here$"):
        check(kind, {**given, name: 1})


def test_several_mistakes_are_named_and_many_are_counted() -> None:
    with pytest.raises(InvalidInput, match=r"^invalid_input: top_k: .*; grammar: not known here$"):
        check(CompletionBody, {**WRITE, "grammar": "x", "top_k": -1})
    with pytest.raises(InvalidInput, match=f"and {1000 - MOST_SAID} more$") as refused:
        check(ChatBody, {"messages": ["Hi"] * 1000})
    assert len(refused.value.message) < 1000
    with pytest.raises(InvalidInput) as refused:
        check(ChatBody, {**CHAT, "x" * 10**6: 1})
    assert len(refused.value.message) < 1000


@pytest.mark.parametrize("body", [None, [], "x", 5])
def test_a_body_that_is_no_object_is_refused(body: Any) -> None:
    with pytest.raises(InvalidInput, match="valid dictionary"):
        check(ChatBody, body)


@pytest.mark.parametrize(("kind", "given"), TALKS, ids=shown)
def test_only_what_was_given_and_is_llama_cpps_goes_on(kind: Any, given: dict[str, Any]) -> None:
    ours = {"model": "x", "user": "x", "safety_identifier": "x", "metadata": {}, "stream": True, "stream_options": {}}
    openais = {"store": False, "service_tier": "auto", "n": 1}
    assert check(kind, {**given, **ours, **openais}).for_engine() == given
    kept = {"temperature": 0.0, "max_tokens": 5, "logit_bias": {"1": -1.0}, "repeat_last_n": -1, "seed": 0}
    assert check(kind, {**given, **kept}).for_engine() == {**given, **kept}
    assert check(kind, {**given, "stop": "x"}).for_engine() == {**given, "stop": ["x"]}


def test_the_newer_name_of_max_tokens_is_known() -> None:
    assert check(ChatBody, {**CHAT, "max_completion_tokens": 5}).for_engine() == {**CHAT, "max_tokens": 5}
    both = {**CHAT, "max_completion_tokens": 5, "max_tokens": 3}
    assert check(ChatBody, both).for_engine() == {**CHAT, "max_tokens": 3}


def test_the_effort_of_reasoning_goes_to_the_template_unless_that_was_told_already() -> None:
    body = {**CHAT, "reasoning_effort": "low"}
    assert check(ChatBody, body).for_engine()["chat_template_kwargs"] == {"reasoning_effort": "low"}
    told = {**body, "chat_template_kwargs": {"reasoning_effort": "high", "a": True}}
    assert check(ChatBody, told).for_engine() == {**CHAT, "chat_template_kwargs": told["chat_template_kwargs"]}


@pytest.mark.parametrize(
    ("prompt", "expected"), [("a", "a"), (["a"], "a"), ([1, 2], [1, 2]), ("", ""), ([""], "")], ids=str
)
def test_a_prompt_is_one_text_or_its_tokens(prompt: Any, expected: Any) -> None:
    assert check(CompletionBody, {"prompt": prompt}).for_engine() == {"prompt": expected}


@pytest.mark.parametrize("prompt", [["a", "b"], []], ids=str)
def test_another_number_of_prompts_is_refused_with_what_to_do(prompt: list[str]) -> None:
    with pytest.raises(InvalidInput, match=r"^invalid_input: prompt: one a request; send several requests"):
        check(CompletionBody, {"prompt": prompt})


@pytest.mark.parametrize(("asked", "n_probs"), [(0, 1), (1, 1), (5, 5)])
def test_the_likelihoods_of_a_completion_are_asked_for_by_llama_cpps_name(asked: int, n_probs: int) -> None:
    given = {**WRITE, "logprobs": asked, "echo": False, "best_of": 1}
    assert check(CompletionBody, given).for_engine() == {**WRITE, "n_probs": n_probs}


@pytest.mark.parametrize(
    ("given", "inputs"),
    [("a", ["a"]), (["a", "b"], ["a", "b"]), ([1, 2], [[1, 2]]), ([[1, 2], [3]], [[1, 2], [3]]), ([[]], [[]])],
    ids=str,
)
def test_inputs_are_texts_or_their_tokens(given: Any, inputs: list[Any]) -> None:
    assert check(EmbeddingBody, {"input": given}).inputs == inputs


def test_as_many_tokens_as_a_text_has_are_one_input() -> None:
    assert len(check(EmbeddingBody, {"input": [1] * 5000}).inputs) == 1


@pytest.mark.parametrize("given", [[], ["a"] * 2049, [[1]] * 2049], ids=["none", "texts", "tokens"])
def test_another_number_of_inputs_is_refused_with_both_bounds(given: list[Any]) -> None:
    with pytest.raises(InvalidInput, match=r"^invalid_input: input: 1 to 2048 texts a request$"):
        check(EmbeddingBody, {"input": given})
