"""The llama architecture, small: RMS norms, rotary positions, grouped heads, gated feed-forward, tied embeddings."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Shape:
    """The sizes of a network."""

    vocabulary: int
    width: int = 128
    layers: int = 4
    heads: int = 4
    kv_heads: int = 2
    feed_forward: int = 384
    context: int = 2048
    rope_base: float = 10000.0
    norm_epsilon: float = 1e-5

    @property
    def head_width(self) -> int:
        return self.width // self.heads


class Attention(nn.Module):
    """Causal attention whose heads share keys and values in groups."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.q = nn.Linear(shape.width, shape.width, bias=False)
        self.k = nn.Linear(shape.width, shape.kv_heads * shape.head_width, bias=False)
        self.v = nn.Linear(shape.width, shape.kv_heads * shape.head_width, bias=False)
        self.output = nn.Linear(shape.width, shape.width, bias=False)

    def forward(self, x: Tensor, turns: Tensor) -> Tensor:
        batch, length, width = x.shape
        q, k, v = (part(x).view(batch, length, -1, self.shape.head_width).transpose(1, 2) for part in self._parts())
        k, v = (
            part.repeat_interleave(self.shape.heads // self.shape.kv_heads, dim=1) for part in (rotated(k, turns), v)
        )
        mixed = functional.scaled_dot_product_attention(rotated(q, turns), k, v, is_causal=True)
        summed: Tensor = self.output(mixed.transpose(1, 2).reshape(batch, length, width))
        return summed

    def _parts(self) -> tuple[nn.Linear, nn.Linear, nn.Linear]:
        return self.q, self.k, self.v


class FeedForward(nn.Module):
    """SwiGLU (Shazeer 2020, arXiv:2002.05202)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate = nn.Linear(shape.width, shape.feed_forward, bias=False)
        self.up = nn.Linear(shape.width, shape.feed_forward, bias=False)
        self.down = nn.Linear(shape.feed_forward, shape.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        summed: Tensor = self.down(functional.silu(self.gate(x)) * self.up(x))
        return summed


class Block(nn.Module):
    """Attention and feed-forward, each behind a norm and beside a shortcut."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(shape.width, shape.norm_epsilon)
        self.attention = Attention(shape)
        self.feed_forward_norm = nn.RMSNorm(shape.width, shape.norm_epsilon)
        self.feed_forward = FeedForward(shape)

    def forward(self, x: Tensor, turns: Tensor) -> Tensor:
        attended: Tensor = x + self.attention(self.attention_norm(x), turns)
        thought: Tensor = self.feed_forward(self.feed_forward_norm(attended))
        return attended + thought


class Llama(nn.Module):
    """Token ids (batch, length) to the logits of the next tokens at the positions asked for."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embedding = nn.Embedding(shape.vocabulary, shape.width)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = nn.RMSNorm(shape.width, shape.norm_epsilon)
        for weight in self.parameters():
            if weight.dim() == 2:
                nn.init.normal_(weight, std=0.02)

    def forward(self, tokens: Tensor, wanted: Tensor) -> Tensor:
        """Logits (n, vocabulary) where `wanted` (batch, length) is true."""
        x = self.embedding(tokens)
        turns = rotations(self.shape, tokens.shape[1]).to(x.device)
        for block in self.blocks:
            x = block(x, turns)
        logits: Tensor = functional.linear(self.norm(x[wanted]), self.embedding.weight)
        return logits


def rotations(shape: Shape, length: int) -> Tensor:
    """The turn of each pair of channels at each position, as complex numbers (length, head_width / 2)."""
    half = torch.arange(0, shape.head_width, 2) / shape.head_width
    angles = torch.outer(torch.arange(length), shape.rope_base**-half)
    return torch.polar(torch.ones_like(angles), angles)


def rotated(x: Tensor, turns: Tensor) -> Tensor:
    """Neighbouring channels turned as pairs (Su et al. 2021, arXiv:2104.09864): what GGUF's llama expects."""
    pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * turns).flatten(-2)
