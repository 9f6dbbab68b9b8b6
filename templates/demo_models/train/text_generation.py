"""Train demo/text-generation: a llama of a few MB that answers questions about shapes, colours and Pilotlight.

python -m templates.demo_models.train.text_generation --out /tmp/text-generation --seed 0
"""

import argparse
import itertools
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

from templates.demo_models.train.budget import Budget
from templates.demo_models.train.byte_pairs import train_byte_pairs
from templates.demo_models.train.conversations import (
    ASSISTANT,
    END,
    SYSTEM,
    USER,
    Conversation,
    conversations,
)
from templates.demo_models.train.gguf_file import read_weights, write_gguf
from templates.demo_models.train.llama import Llama, Shape
from templates.demo_models.train.options import add_budget, make_parser

VOCABULARY = 1280
TOKENIZER_CONVERSATIONS = 10_000
WINDOW = 256  # tokens
LONG_WINDOW = 512  # at the end of training
LONG_SHARE = 0.1
TOKENS = 2048  # per step
LEARNING_RATE = 3e-3
SAVE_EVERY = 1000  # steps
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Batch:
    """Windows of token ids (n, length), the tokens that follow them, and which of these the model has to say."""

    tokens: Tensor
    following: Tensor
    said: Tensor


def make_tokenizer() -> Tokenizer:
    """The tokenizer of what conversations say; the same on every run."""
    sample = itertools.islice(conversations(seed=0), TOKENIZER_CONVERSATIONS)
    texts = ("".join(span.text for span in one) for one in sample)
    markers = (SYSTEM, USER, ASSISTANT, END)
    plain = (_without(text, markers) for text in texts)
    return train_byte_pairs(plain, VOCABULARY, markers)


def _without(text: str, markers: tuple[str, ...]) -> str:
    for marker in markers:
        text = text.replace(marker, " ")
    return text


class Windows:
    """Batches of windows into which conversations are packed, one behind the other."""

    def __init__(self, tokenizer: Tokenizer, seed: int, device: str) -> None:
        self.tokenizer = tokenizer
        self.device = device
        self.conversations = conversations(seed)

    def batch(self, length: int) -> Batch:
        rows = [self._row(length + 1) for _ in range(max(1, TOKENS // length))]
        tokens = torch.tensor([row[0] for row in rows], device=self.device)
        said = torch.tensor([row[1] for row in rows], device=self.device)
        return Batch(tokens[:, :-1], tokens[:, 1:], said[:, 1:])

    def _row(self, length: int) -> tuple[list[int], list[bool]]:
        tokens: list[int] = []
        said: list[bool] = []
        while len(tokens) < length:
            for numbers, is_said in encoded(self.tokenizer, next(self.conversations)):
                tokens += numbers
                said += [is_said] * len(numbers)
        return tokens[:length], said[:length]


def encoded(tokenizer: Tokenizer, conversation: Conversation) -> Iterator[tuple[list[int], bool]]:
    """The tokens of each span. A span begins a token: what was read is tokenized before what is said."""
    for span in conversation:
        yield tokenizer.encode(span.text, add_special_tokens=False).ids, span.said


def train_network(
    network: Llama, windows: Windows, tokenizer: Tokenizer, budget: Budget, rate: float, out: Path
) -> None:
    """Trains the network, and saves it on the way."""
    optimizer = torch.optim.AdamW(network.parameters(), rate, weight_decay=0.02, betas=(0.9, 0.98))
    recent = 5.0
    for step, done in budget:
        optimizer.param_groups[0]["lr"] = rate * min(1, (step + 1) / 200) * min(1, max(0.01, 1.6 - 1.6 * done))
        batch = windows.batch(LONG_WINDOW if done > 1 - LONG_SHARE else WINDOW)
        loss = functional.cross_entropy(network(batch.tokens, batch.said), batch.following[batch.said])
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        recent += 0.05 * (loss.item() - recent)
        if step % 100 == 0:
            log.info("step %d (%.0f %%): loss %.4f", step, 100 * done, recent)
        if step % SAVE_EVERY == SAVE_EVERY - 1:
            write_gguf(network, tokenizer, out / "model.gguf")


def train(options: argparse.Namespace) -> None:
    """The whole recipe: tokenize, train, quantize, save."""
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    tokenizer = make_tokenizer()
    network = Llama(Shape(tokenizer.get_vocab_size())).to(options.device)
    if options.resume:
        read_weights(network, options.resume)
    log.info(
        "%d tokens, %d parameters", network.shape.vocabulary, sum(weight.numel() for weight in network.parameters())
    )
    windows = Windows(tokenizer, options.seed + 1, options.device)
    budget = Budget(options.minutes, options.steps)
    train_network(network, windows, tokenizer, budget, options.rate, options.out)
    write_gguf(network, tokenizer, options.out / "model.gguf")
    log.info("saved %s", options.out)


def read_options() -> argparse.Namespace:
    parser = make_parser(__doc__, resume="model.gguf to go on from")
    add_budget(parser, minutes=15)
    parser.add_argument("--rate", type=float, default=LEARNING_RATE, help="learning rate")
    return parser.parse_args()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    train(read_options())
