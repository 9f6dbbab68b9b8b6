"""A CLIP tokenizer whose words are those of a few captions."""

import re
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTokenizer

WORD_END = "</w>"
MAX_TOKENS = 24


def train_tokenizer(captions: Iterable[str], max_tokens: int = MAX_TOKENS) -> CLIPTokenizer:
    """Byte-level BPE in CLIP's format: each word of the captions becomes one token, other text its bytes."""
    merges = _learn_merges({word for caption in captions for word in re.findall("[a-z]+", caption.lower())})
    letters = sorted(ByteLevel.alphabet())
    tokens = [*letters, *(letter + WORD_END for letter in letters), *("".join(pair) for pair in merges)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    build: Any = CLIPTokenizer  # its annotation of merges is too narrow
    tokenizer: CLIPTokenizer = build(vocab=vocabulary, merges=merges, model_max_length=max_tokens)
    return tokenizer


def _learn_merges(words: Iterable[str]) -> list[tuple[str, str]]:
    """Byte-pair encoding until every word is one token; ties go by the alphabet, so the result is fixed."""
    spellings = [[*word[:-1], word[-1] + WORD_END] for word in sorted(words)]
    merges = []
    while pairs := Counter(pair for spelling in spellings for pair in pairwise(spelling)):
        merges.append(max(pairs, key=lambda pair: (pairs[pair], pair)))
        spellings = [_merged(spelling, merges[-1]) for spelling in spellings]
    return merges


def _merged(spelling: list[str], pair: tuple[str, str]) -> list[str]:
    merged: list[str] = []
    for piece in spelling:
        if merged and (merged[-1], piece) == pair:
            merged[-1] += piece
        else:
            merged.append(piece)
    return merged
