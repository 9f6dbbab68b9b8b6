"""Calls to text models, and what comes back."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from shared.device import Device
from shared.models.gguf import TextModel, load
from shared.models.store import DEMO_MODELS
from shared.schemas import ModelSource

ROOT = Path(__file__).parents[3]
CPU = Device("cpu", torch=False)
DEMO = DEMO_MODELS / "text-generation" / "model.gguf"
SQUARE = "How many corners does a square have?"
QUESTIONS = [SQUARE, "What is Pilotlight?", "How do you say blue in Japanese?", "How many sides does a hexagon have?"]
WAIT_S = 60


def open_model(path: Path, **options: Any) -> TextModel:
    """The file or folder, loaded on the CPU."""
    return load(ModelSource("ours/text", "main", path, options), CPU)


def pieces(model: TextModel, asked: str | list[dict[str, Any]], **more: Any) -> list[str]:
    """The pieces of text of an answer, greedy unless more is said."""
    messages = [{"role": "user", "content": asked}] if isinstance(asked, str) else asked
    return heard(model.chat, {"messages": messages, "max_tokens": 60, "temperature": 0, **more})


def heard(call: Callable[..., None], body: dict[str, Any]) -> list[str]:
    """What a call writes, piece by piece."""
    found: list[str] = []

    def take(chunk: dict[str, Any]) -> None:
        found.extend(c.get("text") or c.get("delta", {}).get("content") or "" for c in chunk.get("choices", ()))

    call(body, take)
    return [piece for piece in found if piece]
