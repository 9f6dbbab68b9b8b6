"""Text models by llama.cpp: what is loaded, what a call does, and what happens to a call that cannot be run."""

import gc
import http.client
import json
import math
import random
import shutil
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import gguf
import pytest

from shared.device import Device, rss_bytes
from shared.errors import Cancelled, InvalidInput, ModelUnavailable
from shared.models import readahead, volumes
from shared.models.gguf import CONTEXT, EMBEDDED_AT_ONCE, TextModel, load
from shared.models.store import DEMO_MODELS
from shared.schemas import ModelSource
from tests.shared.models.tiny_gguf import write

ROOT = Path(__file__).parents[3]
CPU = Device("cpu", torch=False)
DEMO = DEMO_MODELS / "text-generation" / "model.gguf"
SQUARE = "How many corners does a square have?"
QUESTIONS = [SQUARE, "What is Pilotlight?", "How do you say blue in Japanese?", "How many sides does a hexagon have?"]
WAIT_S = 60


def open_model(path: Path, **options: Any) -> TextModel:
    return load(ModelSource("ours/text", "main", path, options), CPU)


@pytest.fixture(scope="module")
def demo() -> TextModel:
    return open_model(DEMO, slots=2)


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> TextModel:
    """Goes on until its tokens are used up."""
    return open_model(write(tmp_path_factory.mktemp("gguf") / "endless.gguf"), slots=2, context=256)


def pieces(model: TextModel, asked: str | list[dict[str, Any]], **more: Any) -> list[str]:
    """The pieces of text of an answer, greedy unless more is said."""
    messages = [{"role": "user", "content": asked}] if isinstance(asked, str) else asked
    return heard(model.chat, {"messages": messages, "max_tokens": 60, "temperature": 0, **more})


def heard(call: Callable[..., None], body: dict[str, Any]) -> list[str]:
    found: list[str] = []

    def take(chunk: dict[str, Any]) -> None:
        found.extend(c.get("text") or c.get("delta", {}).get("content") or "" for c in chunk.get("choices", ()))

    call(body, take)
    return [piece for piece in found if piece]


def prompt_of(model: TextModel, asked: list[dict[str, Any]]) -> int:
    """How many tokens a chat has, by the model's own count."""
    usage: dict[str, int] = {}
    body = {"messages": asked, "max_tokens": 1, "stream_options": {"include_usage": True}}
    model.chat(body, lambda chunk: usage.update(chunk.get("usage") or {}))
    return usage["prompt_tokens"]


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(ModelUnavailable) as caught:
        open_model(path, **options)
    assert str(path.parent) not in caught.value.message
    return caught.value.message


def test_a_file_is_loaded(demo: TextModel) -> None:
    assert "four" in "".join(pieces(demo, SQUARE))


@pytest.mark.parametrize("networked", [True, False])
def test_on_a_network_volume_a_file_is_read_and_never_mapped(
    tmp_path: Path, demo: TextModel, networked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = Path(shutil.copy(DEMO, tmp_path / "copy.gguf"))
    if networked:
        monkeypatch.setattr(volumes, "NETWORKS", ("",))
    model = open_model(file)
    assert [pieces(model, question) for question in QUESTIONS] == [pieces(demo, question) for question in QUESTIONS]
    assert (str(file) in Path("/proc/self/maps").read_text()) is not networked


def test_on_a_network_volume_a_file_is_not_mapped_where_memory_does_not_hold_it_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(volumes, "NETWORKS", ("",))
    monkeypatch.setattr(readahead, "ROOM", 1e9)
    file = write(tmp_path / "says.gguf", says="one")
    assert "".join(pieces(open_model(file), "?")) == "one"
    assert str(file) not in Path("/proc/self/maps").read_text()


def test_a_folder_with_one_file_is_loaded(tmp_path: Path) -> None:
    write(tmp_path / "best-of-breed.gguf", says="one")
    assert "".join(pieces(open_model(tmp_path), "?")) == "one"


def test_a_folder_with_several_files_names_them(tmp_path: Path) -> None:
    for name in ("a.gguf", "b.gguf"):
        write(tmp_path / name)
    assert "there are: a.gguf, b.gguf" in refusal(tmp_path)
    (tmp_path / "empty").mkdir()
    assert "there are: none" in refusal(tmp_path / "empty")


def test_a_model_in_parts_is_loaded_by_its_folder_or_by_any_part(tmp_path: Path) -> None:
    first = write(tmp_path / "parts.gguf", says="part", tensors_per_part=8)
    last = sorted(tmp_path.glob("*.gguf"))[-1]
    assert last != first
    for path in (tmp_path, first, last):
        assert "".join(pieces(open_model(path), "?")) == "part"


def test_a_part_that_is_missing_or_damaged_is_named(tmp_path: Path) -> None:
    first = write(tmp_path / "parts.gguf", tensors_per_part=8)
    second = sorted(tmp_path.glob("*.gguf"))[1]
    second.write_bytes(second.read_bytes()[:40])
    assert second.name in refusal(first)
    second.unlink()
    assert f"{second.name} cannot be read" in refusal(first)


def test_a_file_that_ends_within_its_last_tensor_is_named(tmp_path: Path) -> None:
    file = write(tmp_path / "ours.gguf")
    file.write_bytes(file.read_bytes()[:-100])
    assert refusal(file).startswith("ours.gguf: llama.cpp cannot load it")


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.gguf").startswith("none.gguf cannot be read")


@pytest.mark.parametrize(
    "options", [{"contxt": 5}, {"context": 8}, {"context": "4096"}, {"slots": 0}, {"slots": True}]
)
def test_an_option_that_cannot_be_kept_is_named(options: dict[str, Any]) -> None:
    with pytest.raises(ModelUnavailable, match=f"option.*{next(iter(options))}"):
        open_model(DEMO, **options)


def test_damaged_tables_of_tensors_are_refused_and_end_no_process(tmp_path: Path) -> None:
    """Flipped bytes in the list of tensors, in a process of their own: llama.cpp can end it."""
    code = """
import random, sys
from pathlib import Path
from shared.device import Device
from shared.errors import ModelUnavailable
from shared.models.gguf import load
from shared.schemas import ModelSource
file = Path(sys.argv[1])
whole = file.read_bytes()
start, end = whole.index(b"token_embd.weight"), whole.index(b"output.weight") + 40
refused = 0
for seed in range(150):
    rng, content = random.Random(seed), bytearray(whole)
    content[rng.randrange(start, end)] ^= 1 << rng.randrange(8)
    file.write_bytes(content)
    try:
        load(ModelSource("ours/text", "main", file), Device("cpu", torch=False))
    except ModelUnavailable as exc:
        assert file.name in exc.message
        refused += 1
print(refused)
"""
    file = write(tmp_path / "ours.gguf")
    done = subprocess.run([sys.executable, "-c", code, str(file)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) > 100


def test_a_job_has_the_context_asked_for_as_far_as_the_model_was_trained(tmp_path: Path) -> None:
    short = write(tmp_path / "short.gguf", context=512)
    assert open_model(short, context=256).context == 256
    assert open_model(short, context=4096).context == 512
    assert open_model(short).context == min(CONTEXT, 512)


def test_each_slot_has_the_whole_context(endless: TextModel) -> None:
    assert endless.slots == 2
    assert len(pieces(endless, "x", max_tokens=1000)) > 200


def test_a_prompt_that_is_too_long_is_refused_with_both_numbers(endless: TextModel) -> None:
    with pytest.raises(InvalidInput, match=r"has \d{3} tokens, and a job here may have 256") as caught:
        pieces(endless, "x" * 500)
    assert caught.value.detail["n_ctx"] == 256
    assert caught.value.detail["n_prompt_tokens"] > 500
    assert caught.value.detail["openai_code"] == "context_length_exceeded"
    with pytest.raises(InvalidInput, match="a job here may have 256"):
        heard(endless.complete, {"prompt": "x" * 500})


def test_a_model_without_a_template_is_spoken_to_in_plain_turns(tmp_path: Path) -> None:
    model = open_model(write(tmp_path / "plain.gguf", template=None, says="ok\nUSER:bc"))
    said = [
        {"role": "system", "content": "Be"},
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    ]
    as_text = "Be\nUSER: a\nASSISTANT: b\nUSER: c\nASSISTANT:"
    assert prompt_of(model, said) == 1 + len(as_text)
    begun = [*said, {"role": "assistant", "content": "x"}]  # and the turn that it would go on with is none of its
    assert prompt_of(model, begun) == 1 + len(f"{as_text}x")
    assert "".join(pieces(model, begun)) == "ok"
    assert "".join(heard(model.complete, {"prompt": "x", "temperature": 0})) == "ok"


def test_a_begun_answer_is_continued(demo: TextModel) -> None:
    begun = [{"role": "user", "content": SQUARE}, {"role": "assistant", "content": "A square has"}]
    assert "".join(pieces(demo, begun)).startswith(" four")


@pytest.mark.parametrize("failure", [ValueError("ours"), Cancelled("asked"), KeyboardInterrupt(), TypeError("x")])
def test_what_the_caller_raises_ends_the_answer_and_is_raised(endless: TextModel, failure: BaseException) -> None:
    calls: list[int] = []

    def fail(chunk: dict[str, Any]) -> None:
        calls.append(1)
        if len(calls) == 10:
            raise failure

    with pytest.raises(type(failure)) as caught:
        endless.chat({"messages": [{"role": "user", "content": "x"}], "temperature": 0}, fail)
    assert caught.value is failure
    assert len(calls) == 10
    assert pieces(endless, "x", max_tokens=3)


@pytest.mark.parametrize(
    ("stop", "expected"),
    [
        ("STOP", "abc-"),
        (["STOP"], "abc-"),
        (["Q", "ST"], "abc-"),
        (["STOPPED"], "abc-STOP+def"),
        (["f"], "abc-STOP+de"),
        (["a"], ""),
        ([], "abc-STOP+def"),
        (None, "abc-STOP+def"),
    ],
)
def test_stop_strings_are_not_in_the_text_in_whole_or_in_part(tmp_path: Path, stop: Any, expected: str) -> None:
    """The model writes a letter a token: nothing of a stop string may leave before it is known to be none."""
    model = open_model(write(tmp_path / "says.gguf", says="abc-STOP+def"))
    assert "".join(pieces(model, "?", stop=stop)) == expected
    assert "".join(heard(model.complete, {"prompt": "?", "temperature": 0, "stop": stop})) == expected


@pytest.mark.parametrize("text", ["é!", "青い", "😀", "a😀é→z", "🇩🇪"[:1] + "x"])
def test_characters_of_several_bytes_are_not_cut(tmp_path: Path, text: str) -> None:
    """The model writes a byte a token."""
    model = open_model(write(tmp_path / "says.gguf", says=text))
    assert pieces(model, "?") == list(text)
    assert heard(model.complete, {"prompt": "?", "temperature": 0}) == list(text)


def test_the_demo_model_writes_whole_characters_of_other_scripts(demo: TextModel) -> None:
    found = pieces(demo, "How do you say blue in Japanese?")
    assert "\ufffd" not in "".join(found)
    assert not "".join(found).isascii()


def test_two_answers_at_once_are_not_mixed(demo: TextModel) -> None:
    alone = {asked: pieces(demo, asked) for asked in QUESTIONS}
    got: list[tuple[str, list[str]]] = []

    def ask(seed: int) -> None:
        got.extend((asked, pieces(demo, asked)) for asked in random.Random(seed).choices(QUESTIONS, k=10))

    run_together(lambda: ask(1), lambda: ask(2))
    assert len(got) == 20
    assert all(found == alone[asked] for asked, found in got)


def run_together(*calls: Callable[[], None]) -> None:
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    assert not [thread for thread in threads if thread.is_alive()]


def test_both_of_two_answers_go_on_and_one_that_is_stopped_leaves_the_other(endless: TextModel) -> None:
    expected = pieces(endless, "other", max_tokens=150)
    met, found = threading.Barrier(2, timeout=WAIT_S), []
    counts = {"stopped": 0}

    def stop_early(chunk: dict[str, Any]) -> None:
        counts["stopped"] += 1
        if counts["stopped"] == 20:
            met.wait()  # the other is in the middle of its text
            raise Cancelled("asked")

    def stopped() -> None:
        with pytest.raises(Cancelled):
            endless.chat({"messages": [{"role": "user", "content": "one"}], "temperature": 0}, stop_early)

    def other() -> None:
        def take(chunk: dict[str, Any]) -> None:
            found.append(chunk["choices"][0]["delta"].get("content") or "" if chunk.get("choices") else "")
            if len(found) == 20:
                met.wait()

        body = {"messages": [{"role": "user", "content": "other"}], "temperature": 0, "max_tokens": 150}
        endless.chat(body, take)

    run_together(stopped, other)
    assert counts["stopped"] == 20
    assert "".join(found) == "".join(expected)


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


def test_an_answer_keeps_to_the_schema(demo: TextModel) -> None:
    body = {"temperature": 1.0, "response_format": ASKED, "max_tokens": 60}
    for seed in range(3):
        spoken = json.loads("".join(pieces(demo, SQUARE, **body, seed=seed)))
        written = json.loads("".join(heard(demo.complete, {"prompt": "A square", **body, "seed": seed})))
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
def test_a_schema_that_llama_cpp_gives_up_is_an_error_not_any_text(demo: TextModel, schema: dict[str, Any]) -> None:
    asked = {"type": "json_schema", "json_schema": {"schema": schema}}
    with pytest.raises(InvalidInput, match="response_format: the schema is too complex"):
        pieces(demo, "Hi", response_format=asked)


def test_a_schema_is_checked_before_anything_is_written(demo: TextModel) -> None:
    for call, body in ((demo.chat, {"messages": []}), (demo.complete, {"prompt": "x"})):
        with pytest.raises(InvalidInput, match=r'Unimplemented keys: .*"not"'):
            call(
                {**body, "response_format": {"type": "json_object", "schema": {"not": {}}}},
                lambda chunk: pytest.fail(),
            )


def test_a_chat_model_makes_embeddings_of_length_one(demo: TextModel) -> None:
    answer = demo.embed(["a red circle", "a red circle", "What is Pilotlight?"])
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
def test_embeddings_that_cannot_be_made_are_refused(demo: TextModel, inputs: list[Any], complaint: str) -> None:
    with pytest.raises(InvalidInput, match=complaint):
        demo.embed(inputs)


def test_an_encoding_that_there_is_not_is_refused(demo: TextModel) -> None:
    with pytest.raises(InvalidInput):
        demo.embed(["x"], "x")


def test_many_embeddings_are_numbered_and_counted_as_one(demo: TextModel) -> None:
    inputs: list[str | list[int]] = [f"shape {n}" for n in range(EMBEDDED_AT_ONCE)]
    answer = demo.embed([*inputs, *inputs, "last"])
    assert [entry["index"] for entry in answer["data"]] == list(range(2 * EMBEDDED_AT_ONCE + 1))
    parts = [demo.embed(part)["usage"] for part in (inputs, inputs, ["last"])]
    assert answer["usage"] == {name: sum(part[name] for part in parts) for name in parts[0]}
    first, again = (answer["data"][index]["embedding"] for index in (5, EMBEDDED_AT_ONCE + 5))
    assert first == pytest.approx(again, abs=1e-4)


def test_embeddings_stop_between_a_few_of_them(demo: TextModel) -> None:
    calls: list[int] = []

    def check() -> None:
        calls.append(1)
        if len(calls) == 3:
            raise Cancelled("asked")

    with pytest.raises(Cancelled):
        demo.embed(["x"] * 2000, check=check)
    assert len(calls) == 3
    calls = [0] * 3
    assert len(demo.embed(["x"] * 65, check=check)["data"]) == 65
    assert len(calls) == 6


@pytest.mark.parametrize("back", [-1, 10**6])
def test_a_penalty_reaches_back_over_the_whole_context_at_most(endless: TextModel, back: int) -> None:
    """llama.cpp makes room for as many tokens as it is told, and refuses -1."""
    penalty = {"repeat_penalty": 1.5, "max_tokens": 100}
    expected = pieces(endless, "x", **penalty, repeat_last_n=endless.context)
    assert pieces(endless, "x", **penalty, repeat_last_n=back) == expected


TOOL = {"type": "function", "function": {"name": "draw", "parameters": {"type": "object"}}}


def test_tools_are_for_models_whose_template_has_them(demo: TextModel, tmp_path: Path) -> None:
    assert not demo.has_tools
    with pytest.raises(InvalidInput, match="tools: this model's template has none"):
        pieces(demo, "Hi", tools=[TOOL])
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
def test_a_request_that_llama_cpp_cannot_read_is_refused(demo: TextModel, body: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        demo.chat(body, lambda chunk: None)


@pytest.mark.parametrize("prompt", [{}, 5, None, [None], [[1, "a"], {}], [10**6], [-1]], ids=str)
def test_a_prompt_that_llama_cpp_cannot_read_is_refused(demo: TextModel, prompt: Any) -> None:
    with pytest.raises(InvalidInput):
        demo.complete({"prompt": prompt}, lambda chunk: None)


def threads() -> int:
    return sum(1 for _ in Path("/proc/self/task").iterdir()) if sys.platform == "linux" else threading.active_count()


def test_a_model_that_is_dropped_gives_back_its_threads_and_its_memory(demo: TextModel) -> None:
    """Used or not: llama.cpp waits for ever for the end of a server that has not begun."""

    def load_and_drop(*, use: bool) -> None:
        model = open_model(DEMO)
        if use:
            pieces(model, SQUARE)
        watched = weakref.ref(model)
        del model
        gc.collect()
        assert watched() is None

    for use in (True, False) * 4:
        load_and_drop(use=use)
    before, held = threads(), rss_bytes()
    for use in (True, False) * 4:
        load_and_drop(use=use)
    assert threads() - before < 8  # fewer than one a load; those of other tests' servers come and go
    assert rss_bytes() < 1.1 * held


def test_memory_is_flat_over_many_chats() -> None:
    """In a process of its own, where nothing else grows."""
    code = """
import random, sys
from pathlib import Path
from shared.device import Device, rss_bytes
from shared.models.gguf import load
from shared.schemas import ModelSource
model = load(ModelSource("demo", "main", Path(sys.argv[1])), Device("cpu", torch=False))
rng = random.Random(0)
for n in range(1, 201):
    asked = rng.choice(sys.argv[2:])
    body = {"messages": [{"role": "user", "content": asked}], "max_tokens": 60, "seed": n}
    model.chat(body, lambda chunk: None)
    if n in (50, 200):
        print(rss_bytes())
"""
    command = [sys.executable, "-c", code, str(DEMO), *QUESTIONS]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    after_50, after_200 = map(int, done.stdout.split())
    assert after_200 <= 1.05 * after_50


ROUTES = [
    *("/", "/v1/models", "/models", "/props", "/slots", "/metrics", "/lora-adapters", "/completion", "/completions"),
    *("/v1/completions", "/chat/completions", "/v1/chat/completions", "/v1/responses", "/v1/messages", "/embedding"),
    *("/embeddings", "/v1/embeddings", "/rerank", "/v1/rerank", "/tokenize", "/detokenize", "/apply-template"),
    *("/models/load", "/tools", "/cors-proxy", "/index.html", "/api/show", "/api/tags"),
    *("/slots/0?action=erase", "/infill"),
]  # fmt: skip


def test_the_port_that_llama_cpp_opens_answers_nothing_of_use_without_its_key(demo: TextModel) -> None:
    address = urlsplit(demo._server.listening_address)
    assert address.hostname == "127.0.0.1"
    body = json.dumps({"prompt": "hi", "input": "hi", "content": "hi", "messages": [], "max_tokens": 1})
    for route in ROUTES:
        for method in ("GET", "POST"):
            connection = http.client.HTTPConnection("127.0.0.1", int(str(address.port)), timeout=WAIT_S)
            connection.request(method, route, body if method == "POST" else None, {"Authorization": "Bearer x"})
            status = connection.getresponse().status
            connection.close()
            assert status in (401, 404), (method, route, status)
