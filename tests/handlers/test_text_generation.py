"""text-generation: the first worker's jobs, chats, and the whole worker, on the demo model."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import pytest
from pydantic import ValidationError

import handlers
from handlers.text_generation import TextGenerationParams, handler
from shared.errors import Cancelled, InvalidInput, NotFound, ResultTooLarge
from shared.job import Event, Job, Piece
from shared.models.gguf import TextModel
from shared.models.store import DEMO_MODELS
from shared.runner import Runner
from shared.settings import Settings
from tests.handlers.writing import CHAT, MODEL, SQUARE, ask, text, write
from tests.shared.models.recorder import Recorder

ROOT = Path(__file__).parents[2]
WAIT_S = 60
FILE = DEMO_MODELS / "text-generation" / "model.gguf"
# As the first worker's own page sends it.
FIRST_WORKERS = {
    "prompt": "A square has",
    "max_new_tokens": 300,
    "temperature": None,
    "top_p": None,
    "top_k": None,
    "repetition_penalty": None,
    "last_n_tokens": None,
    "seed": -1,
    "batch_size": 8,
    "threads": -1,
    "stop": ["</s>"],
}


def test_a_job_of_the_first_worker_runs(writer: TextModel) -> None:
    ctx = Recorder()
    handler.run(writer, TextGenerationParams(**FIRST_WORKERS), ctx)
    assert text(ctx)
    assert 0 <= ctx.differs["seed"] < 2**32
    assert ctx.usage["completion_tokens"] <= 300
    assert ctx.finish_reason in ("stop", "length")


def test_null_means_the_default() -> None:
    params = TextGenerationParams(**FIRST_WORKERS)
    assert (params.temperature, params.top_p, params.top_k) == (0.8, 0.95, 40)
    assert (params.repetition_penalty, params.last_n_tokens, params.stream) == (1.0, 64, True)
    assert TextGenerationParams(prompt="a", stream=None, stop=None, n=None).stop == []


def test_a_question_is_answered_in_pieces(writer: TextModel) -> None:
    ctx = write(writer, messages=CHAT)
    assert "four" in text(ctx)
    assert len(ctx.pieces) > 3
    assert ctx.finish_reason == "stop"
    assert ctx.usage["total_tokens"] == ctx.usage["prompt_tokens"] + ctx.usage["completion_tokens"]
    assert ctx.facts["tokens_per_s"] > 0


def test_a_prompt_is_continued_as_it_is(writer: TextModel) -> None:
    assert text(write(writer, prompt="A square has", max_new_tokens=4)).startswith(" ")


def test_a_nudge_begins_the_answer_and_is_not_in_it(writer: TextModel) -> None:
    for asked in ({"messages": CHAT}, {"prompt": SQUARE, "system_prompt": "Be brief."}):
        answer = text(write(writer, nudge="A square has", **asked))
        assert answer.startswith(" four")
    both = [text(write(writer, prompt=p, nudge=n)) for p, n in (("A square", " has"), ("A square has", ""))]
    assert both[0] == both[1]


def test_with_a_system_prompt_a_prompt_is_a_question(writer: TextModel) -> None:
    assert "four" in text(write(writer, prompt=SQUARE, system_prompt="Answer."))
    told = [{"role": "system", "content": "Answer."}, *CHAT]
    assert text(write(writer, messages=told)) == text(write(writer, messages=CHAT, system_prompt="Answer."))


def test_the_text_ends_before_a_stop_string(writer: TextModel) -> None:
    ctx = write(writer, messages=CHAT, stop="four")
    assert "fo" not in text(ctx)
    assert ctx.finish_reason == "stop"


def test_the_text_has_no_more_tokens_than_asked_for(writer: TextModel) -> None:
    ctx = write(writer, messages=CHAT, max_new_tokens=3)
    assert (ctx.usage["completion_tokens"], ctx.finish_reason) == (3, "length")


def test_at_temperature_zero_or_with_one_seed_the_text_is_the_same(writer: TextModel) -> None:
    warm: dict[str, Any] = {"prompt": "A", "temperature": 5.0, "min_p": 0.0, "top_p": 1.0, "max_new_tokens": 30}
    assert text(write(writer, messages=CHAT, seed=1)) == text(write(writer, messages=CHAT, seed=2))
    assert text(write(writer, **warm, seed=5)) == text(write(writer, **warm, seed=5))
    assert len({text(write(writer, **warm, seed=seed)) for seed in range(6)}) > 1


def test_a_seed_that_was_drawn_repeats_the_text(writer: TextModel) -> None:
    warm: dict[str, Any] = {"prompt": "A", "temperature": 5.0, "min_p": 0.0, "top_p": 1.0, "max_new_tokens": 30}
    drawn = write(writer, **warm)
    assert text(write(writer, **warm, seed=drawn.differs["seed"])) == text(drawn)


def test_a_schema_is_kept(writer: TextModel) -> None:
    shape = {
        "type": "object",
        "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 99}},
        "required": ["n"],
    }
    asked = {"type": "json_schema", "json_schema": {"schema": {**shape, "additionalProperties": False}}}
    assert isinstance(json.loads(text(write(writer, messages=CHAT, response_format=asked)))["n"], int)
    with pytest.raises(InvalidInput, match="response_format: send"):
        write(writer, messages=CHAT, response_format={"type": "json_schema"})


def test_a_biased_token_is_left_out(writer: TextModel) -> None:
    tokens = gguf.GGUFReader(FILE).fields["tokenizer.ggml.tokens"].contents()
    banned = {str(token): -100 for token, said in enumerate(tokens) if "four" in said}
    assert "four" in text(write(writer, messages=CHAT))
    assert "four" not in text(write(writer, messages=CHAT, logit_bias=banned))


@pytest.mark.parametrize("back", [-1, 10**6])
def test_penalties_look_back_over_the_whole_context_at_most(writer: TextModel, back: int) -> None:
    asked: dict[str, Any] = {"prompt": "A square has", "repetition_penalty": 1.5}
    expected = text(write(writer, **asked, last_n_tokens=writer.context))
    assert text(write(writer, **asked, last_n_tokens=back)) == expected != ""
    openais: dict[str, Any] = {
        "prompt": "A square has",
        "repeat_penalty": 1.5,
        "repeat_last_n": back,
        "max_tokens": 60,
    }
    body = ask(writer, "/v1/completions", **openais).body
    assert body
    assert body["choices"][0]["text"] == expected


def test_a_cancelled_text_ends_with_its_piece(writer: TextModel) -> None:
    ctx = Recorder(stop_at=2)
    with pytest.raises(Cancelled):
        write(writer, ctx, messages=CHAT)
    assert len(ctx.pieces) == 2


@pytest.mark.parametrize(
    ("theirs", "ours", "value"),
    [
        ("max_tokens", "max_new_tokens", 5),
        ("max_completion_tokens", "max_new_tokens", 5),
        ("repeat_penalty", "repetition_penalty", 1.5),
        ("repeat_last_n", "last_n_tokens", 5),
        ("stop_sequences", "stop", ["a"]),
        ("system", "system_prompt", "Be"),
    ],
)
def test_other_apis_names_are_known_and_one_parameter_is_given_once(theirs: str, ours: str, value: Any) -> None:
    assert getattr(TextGenerationParams(prompt="a", **{theirs: value}), ours) == value
    assert getattr(TextGenerationParams(prompt="a", **{theirs: value, ours: None}), ours) == value
    with pytest.raises(ValidationError, match=f"{ours} and {theirs} are one parameter"):
        TextGenerationParams(prompt="a", **{theirs: value, ours: value})


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"prompt": None},
        {"prompt": "a", "messages": CHAT},
        {"messages": []},
        {"messages": "hi"},
        {"messages": [{"content": "a"}]},
        {"messages": [{"role": "user", "content": 5}]},
        *[{"prompt": "a", name: value} for name, values in {
            "max_new_tokens": (0, -1, 1_000_001, 1.5, "many"), "temperature": (-0.1, 11, float("nan"), float("inf")),
            "top_p": (0, 1.1), "top_k": (-1,), "min_p": (-0.1, 1.1), "repetition_penalty": (0, 11),
            "last_n_tokens": (-2,), "frequency_penalty": (-2.1, 2.1), "presence_penalty": (-2.1, 2.1),
            "seed": (-2, 2**32 - 1), "stop": (5, [5]), "n": (0, 2), "logit_bias": ([], {"a": "b"}), "speed": (1,),
            "response_format": ("json", {"type": "xml"}, {"type": "json_object", "more": 1})}.items()
          for value in values],
        {"prompt": "a", "stop": ["a"] * 65},
        {"prompt": "a", "stop": [""]},
        {"prompt": "a", "logit_bias": {" four": -100}},
        {"prompt": "a", "logit_bias": {str(token): 1 for token in range(301)}},
        {"messages": [*CHAT, {"role": "assistant", "content": "A"}], "nudge": "A square"},
    ],
    ids=lambda wrong: str(wrong)[:80],
)  # fmt: skip
def test_parameters_out_of_bounds_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TextGenerationParams(**wrong)


def test_parameters_are_recorded_as_json() -> None:
    said = [{"role": "user", "content": [{"type": "text", "text": "a"}], "name": "x"}]
    record = TextGenerationParams(messages=said, response_format={"type": "json_object"}).as_record()
    assert json.loads(json.dumps(record))["messages"] == said
    assert record["response_format"] == {"type": "json_object"}


@pytest.fixture(scope="module")
def runner() -> Runner:
    runner = Runner(Settings(pipeline="text-generation", model_id=MODEL, device="cpu"), handlers.Folders())
    runner.submit(Job("first", {"prompt": "a", "max_tokens": 1})).result(WAIT_S)
    return runner


def result(runner: Runner, events: Callable[[Event], None] = lambda event: None, **job: Any) -> dict[str, Any]:
    return runner.submit(Job("job", job, events=events)).result(WAIT_S)


def test_a_job_of_the_first_worker_goes_through_the_whole_worker(runner: Runner) -> None:
    seen: list[Event] = []
    found = result(runner, seen.append, **FIRST_WORKERS)
    assert "".join(str(event.value) for event in seen if isinstance(event, Piece)) == found["text"]
    params = found["receipt"]["params"]
    assert params["prompt"] == "A square has"
    assert params["seed"] == found["receipt"]["seed"] >= 0
    assert "xllamacpp" in found["receipt"]["software"]
    json.dumps(found)


def test_a_job_that_does_not_stream_sends_no_pieces(runner: Runner) -> None:
    seen: list[Event] = []
    assert result(runner, seen.append, messages=CHAT, stream=False)["text"]
    assert not [event for event in seen if isinstance(event, Piece)]


def test_wrong_jobs_are_refused_naming_what_is_wrong(runner: Runner) -> None:
    for job, complaint in (
        ({"prompt": "a", "max_tokens": 1, "max_new_tokens": 1}, "max_new_tokens and max_tokens"),
        ({"prompt": "a", "messages": CHAT}, "give either prompt or messages"),
        ({"prompt": "square " * 9000}, "tokens, and a job here may have"),
        ({"prompt": "a", "openai_route": "/v1/completions", "openai_input": {"prompt": 5}}, "prompt"),
    ):
        with pytest.raises(InvalidInput, match=complaint):
            result(runner, **job)


TOOL = {"type": "function", "function": {"name": "draw", "parameters": {"type": "object"}}}


@pytest.mark.parametrize(
    ("route", "body", "complaint"),
    [
        ("/v1/completions", {"prompt": "a", "grammar": "root ::= x"}, "grammar: not known here"),
        ("/v1/chat/completions", {"messages": CHAT, "grammar": "root ::= x"}, "grammar: not known here"),
        ("/v1/chat/completions", {"messages": CHAT, "stream_options": 5}, "stream_options: "),
        ("/v1/chat/completions", {"messages": CHAT, "stream_options": 5, "stream": True}, "stream_options: "),
        ("/v1/chat/completions", {"messages": CHAT, "stream": 1}, "stream: Input should be a valid boolean"),
        ("/v1/chat/completions", {"messages": CHAT, "tools": [TOOL]}, "tools: this model's template has none"),
        ("/v1/completions", {"prompt": ["a", "b"]}, "prompt: one a request"),
        ("/v1/completions", {"prompt": "a", "repeat_last_n": 10**6 + 1}, "repeat_last_n: "),
        ("/v1/embeddings", {"input": ["a"] * 2049}, "input: 1 to 2048 texts a request"),
        ("/v1/embeddings", {}, "input: Field required"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_openais_requests_out_of_bounds_are_refused_and_the_next_job_runs(
    runner: Runner, route: str, body: dict[str, Any], complaint: str
) -> None:
    """Some of these ended the process, or held it."""
    with pytest.raises(InvalidInput, match=complaint):
        result(runner, openai_route=route, openai_input=body)
    assert result(runner, messages=CHAT, max_tokens=2)["usage"]["completion_tokens"] == 2


def test_a_text_that_grows_larger_than_the_platform_carries_ends_early(runner: Runner) -> None:
    seen: list[Event] = []
    end = str(gguf.GGUFReader(FILE).fields["tokenizer.ggml.eos_token_id"].contents())
    asked: dict[str, Any] = {
        "prompt": "A red circle",
        "max_tokens": 1000,
        "logit_bias": {end: -100},
        "temperature": 0,
    }
    whole = result(runner, **asked)["text"]
    assert len(whole) > 2000
    with pytest.raises(ResultTooLarge, match=r"the text is larger than the platform carries \(500 bytes\)"):
        runner.submit(Job("job", asked, events=seen.append, result_limit=500)).result(WAIT_S)
    said = "".join(str(event.value) for event in seen if isinstance(event, Piece))
    assert whole.startswith(said)
    assert 400 < len(said) <= 500


@pytest.mark.parametrize(
    ("route", "body", "complaint"),
    [
        ("/v1/images/generations", {}, "no route '/v1/images/generations'; there are: /v1/chat/completions"),
        ("/v1/chat/completions", {"model": "gpt-5", "messages": CHAT}, "gpt-5"),
        ("/v1/models/gpt-5", None, "no model 'gpt-5'"),
    ],
)
def test_a_route_or_a_model_that_is_not_there_is_not_found(
    runner: Runner, route: str, body: Any, complaint: str
) -> None:
    with pytest.raises(NotFound, match=complaint):
        result(runner, openai_route=route, openai_input=body)


def test_openais_list_of_models_names_ours(runner: Runner) -> None:
    listed = result(runner, openai_route="/v1/models", openai_input=None)["answer"]
    assert [model["id"] for model in listed["data"]] == [MODEL]


def test_memory_is_flat_over_many_jobs() -> None:
    """Through the whole worker, in a process of its own, where nothing else grows."""
    code = """
import random, sys
import handlers
from shared.device import rss_bytes
from shared.job import Job
from shared.runner import Runner
from shared.settings import Settings
runner = Runner(Settings(pipeline="text-generation", model_id=sys.argv[1], device="cpu"), handlers.Folders())
runner.warm()
rng = random.Random(0)
for n in range(1, 201):
    asked = [{"role": "user", "content": rng.choice(sys.argv[2:])}]
    runner.submit(Job(f"job-{n}", {"messages": asked, "seed": n, "temperature": 0.8})).result(60)
    if n in (50, 200):
        print("held", rss_bytes())
assert "torch" not in sys.modules
"""
    asked = [SQUARE, "What is Pilotlight?", "How do you say blue in Japanese?", "What colour is a banana?"]
    command = [sys.executable, "-c", code, MODEL, *asked]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    held = [int(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("held")]
    assert len(held) == 2
    assert held[1] <= 1.05 * held[0]
