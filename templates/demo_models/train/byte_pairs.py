"""A byte-level BPE tokenizer as llama.cpp's "gpt-2" one, which also knows the chat's markers."""

from collections.abc import Iterable

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

PRE_TOKENIZER = "gpt-2"  # llama.cpp's name for the pattern that ByteLevel splits by


def train_byte_pairs(texts: Iterable[str], size: int, markers: Iterable[str]) -> Tokenizer:
    """A tokenizer of at most `size` tokens: bytes, merges learnt from the ASCII words of the texts, markers.

    Characters of several bytes stay several tokens.
    """
    markers = list(markers)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size - len(markers),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(map(_ascii, texts), trainer)
    tokenizer.add_special_tokens([AddedToken(marker, normalized=False) for marker in markers])
    return tokenizer


def _ascii(text: str) -> str:
    """The text with a blank for each other character."""
    return "".join(letter if letter.isascii() else " " for letter in text)
