"""The recipe of the text model runs from nothing to a GGUF that llama.cpp loads, and repeats itself."""

import argparse
import itertools
from pathlib import Path
from random import Random

import pytest
import torch
from tokenizers import Tokenizer

from templates.demo_models.gguf_model import Model
from templates.demo_models.train import text_generation
from templates.demo_models.train.conversations import END, USER, Span, conversations
from templates.demo_models.train.gguf_file import read_weights, write_gguf
from templates.demo_models.train.languages import EMOJI, LANGUAGES
from templates.demo_models.train.llama import Llama, Shape
from templates.demo_models.train.text_generation import TOKENS, WINDOW, Windows, encoded, make_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return make_tokenizer()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_generation, "TOKENIZER_CONVERSATIONS", 1000)
    monkeypatch.setattr(text_generation, "TOKENS", 512)


def train(out: Path, resume: Path | None = None) -> Path:
    threads = torch.get_num_threads()
    options = {"out": out, "resume": resume, "seed": 3, "device": "cpu", "threads": threads}
    text_generation.train(argparse.Namespace(**options, minutes=0, steps=2, rate=1e-3))
    return out / "model.gguf"


@pytest.mark.usefixtures("small")
def test_trains_saves_and_repeats_itself(tmp_path: Path) -> None:
    one, two = train(tmp_path / "one"), train(tmp_path / "two")
    assert one.read_bytes() == two.read_bytes()
    assert [file.name for file in one.parent.iterdir()] == ["model.gguf"]
    assert isinstance(Model(one, context=256).complete("A square has", max_tokens=3), str)


@pytest.mark.usefixtures("small")
def test_goes_on_from_a_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    shape = Shape(tokenizer.get_vocab_size())
    written, read = Llama(shape), Llama(shape)
    write_gguf(written, tokenizer, tmp_path / "model.gguf")
    read_weights(read, tmp_path / "model.gguf")
    for one, two in zip(written.parameters(), read.parameters(), strict=True):
        assert torch.allclose(one, two, atol=0.001)
    assert train(tmp_path / "more", resume=tmp_path / "model.gguf").exists()


def test_any_text_survives_the_tokenizer(tokenizer: Tokenizer) -> None:
    rng = Random(0)
    for text in (
        *EMOJI["circle"].values(),
        "naïve \t\n  Ünïcödé 💡 12345",
        "".join(map(chr, rng.sample(range(0xD000), 500))),
    ):
        assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_characters_of_several_bytes_are_several_tokens(tokenizer: Tokenizer) -> None:
    foreign = "".join("".join(words.values()) for words in LANGUAGES.values()) + "".join(
        map("".join, map(dict.values, EMOJI.values()))
    )
    for letter in {letter for letter in foreign if not letter.isascii()}:
        assert len(tokenizer.encode(letter).ids) == len(letter.encode())


def test_markers_are_one_token_and_words_mostly_too(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode(f"{USER}{END}").tokens == [USER, END]
    assert tokenizer.encode(" a red square has").tokens == ["Ġa", "Ġred", "Ġsquare", "Ġhas"]


def test_only_what_the_assistant_says_is_learnt(tokenizer: Tokenizer) -> None:
    conversation = [Span("A red circle is"), Span(" round.", said=True)]
    assert [is_said for _, is_said in encoded(tokenizer, conversation)] == [False, True]
    batch = Windows(tokenizer, seed=1, device="cpu").batch(WINDOW)
    assert batch.tokens.shape == batch.following.shape == batch.said.shape == (TOKENS // WINDOW, WINDOW)
    assert 0.2 < batch.said.float().mean() < 0.8
    assert tokenizer.token_to_id(USER) not in batch.following[batch.said]


def test_the_network_sees_no_future(tokenizer: Tokenizer) -> None:
    network = Llama(Shape(tokenizer.get_vocab_size(), layers=2)).eval()
    tokens = torch.arange(10)[None]
    changed = tokens.clone()
    changed[0, 6:] += 50
    wanted = torch.ones_like(tokens, dtype=torch.bool)
    with torch.no_grad():
        one, two = network(tokens, wanted), network(changed, wanted)
    assert torch.allclose(one[:6], two[:6], atol=1e-5)
    assert not torch.allclose(one[6:], two[6:], atol=1e-3)


def test_llama_cpp_computes_what_the_network_computes(tmp_path: Path, tokenizer: Tokenizer) -> None:
    torch.manual_seed(0)
    network = Llama(Shape(tokenizer.get_vocab_size(), layers=2)).eval()
    for weight in network.parameters():
        weight.data *= 5 if weight.dim() == 2 else 1  # far enough from even odds to tell right from wrong
    write_gguf(network, tokenizer, tmp_path / "model.gguf")
    text = "".join(span.text for one in itertools.islice(conversations(9), 3) for span in one)
    tokens = torch.tensor([tokenizer.encode(text).ids])
    wanted = torch.zeros_like(tokens, dtype=torch.bool)
    wanted[0, -1] = True
    with torch.no_grad():
        expected = torch.log_softmax(network(tokens, wanted)[0], 0)
    server = Model(tmp_path / "model.gguf").server
    answer = server.handle_completions({"prompt": text, "max_tokens": 1, "temperature": 0, "logprobs": 3})
    first = answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
    assert first[0]["id"] == expected.argmax().item()
    assert [one["logprob"] for one in first] == pytest.approx([expected[one["id"]].item() for one in first], abs=0.1)
